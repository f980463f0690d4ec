"""When something fails or is closed: every frame and question ends, and the others go on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stream.events import (
    AnswerStatus,
    DropReason,
    Event,
    FrameDone,
    FrameDropped,
    SourceCondition,
    SourceState,
)
from stream.question import QuestionRefusedError
from tests.stream_helpers import (
    FULL,
    HandEngine,
    loaded,
    running,
)


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_stream_whose_context_is_full_fails_and_others_go_on() -> None:
    """On a full-attention model one stream runs into its limit; a younger one goes on."""
    hand = HandEngine("a", "b", config=FULL, max_context=30)
    hand.see("a", 5)
    for _ in range(3):
        hand.frame("a")
        hand.frame("b")
        hand.engine.step()
    hand.see("b")
    (state,) = hand.events["a"].of(SourceState)
    assert state.condition is SourceCondition.FAILED
    assert "bounded to 30 tokens" in state.detail
    assert [e.reason for e in hand.events["a"].of(FrameDropped)] == [DropReason.FAILED]
    assert not hand.events["b"].of(SourceState)
    assert len(hand.events["b"].of(FrameDone)) == 4


def test_stream_whose_context_is_full_ends_its_questions_as_failed() -> None:
    """Waiting and half-read questions of a stream that failed end, and no more are taken."""
    hand = HandEngine("a", config=FULL, max_context=30, max_answers=1)
    hand.see("a", 7)
    first, second = hand.ask(max_tokens=50), hand.ask(max_tokens=50)
    hand.see("a", 1)
    ends = hand.events["a"].ends()
    assert {ends[first].status, ends[second].status} == {AnswerStatus.FAILED}
    with pytest.raises(QuestionRefusedError, match="no open stream"):
        hand.ask()


def test_question_sent_while_its_stream_fails_still_ends() -> None:
    """A question accepted in the step in which its stream fails ends as failed, not never."""
    hand = HandEngine("a", config=FULL, max_context=3)
    vlm, asked = hand.model.vlm, []
    append = vlm.append_image_tokens

    def ask_then_append(*args: Any, **wanted: Any) -> torch.Tensor:
        asked.append(hand.ask())
        return append(*args, **wanted)

    vlm.append_image_tokens = ask_then_append  # type: ignore[method-assign]
    try:
        hand.see()
    finally:
        del vlm.append_image_tokens
    hand.run_dry()
    assert hand.events["a"].ends()[asked[0]].status is AnswerStatus.FAILED


def test_failed_stream_can_be_closed_and_its_name_used_again() -> None:
    """A stream that failed gives its slot and its name back when it is closed."""
    hand = HandEngine("a", config=FULL, max_context=10)
    hand.see(count=3)
    assert hand.events["a"].of(SourceState)
    hand.engine.close_stream("a", "start anew")
    hand.engine.step()
    hand.open("a")
    hand.see()
    assert len(hand.events["a"].of(FrameDone)) == 1


def test_answer_whose_context_is_full_fails_alone() -> None:
    """An answer that runs into the limit fails; one made beside it and the stream go on."""
    prompt = len(loaded(FULL).tokenizer.question_prompt("What?"))
    hand = HandEngine("a", "b", config=FULL, max_context=prompt + 40, max_answers=2)
    hand.see("a", 9)
    hand.see("b", 1)
    lucky = hand.ask(stream="b", max_tokens=30)
    doomed = hand.ask(stream="a", max_tokens=30)
    hand.run_dry()
    failed = hand.events["a"].ends()[doomed]
    assert failed.status is AnswerStatus.FAILED and 0 < failed.num_tokens < 30
    assert hand.events["b"].ends()[lucky].num_tokens == 30
    hand.see("a")
    assert len(hand.events["a"].of(FrameDone)) == 10


def test_prompt_whose_context_is_full_fails_alone() -> None:
    """A prompt that does not fit fails; one that waits behind it is read to its end."""
    text = "Why?" * 2
    prompt = len(loaded(FULL).tokenizer.question_prompt(text))
    hand = HandEngine("a", "b", config=FULL, max_context=prompt + 10, max_answers=2)
    hand.see("a", 4)
    hand.see("b", 1)
    lucky = hand.ask(text, stream="b", max_tokens=3)
    doomed = hand.ask(text, stream="a", max_tokens=3)
    hand.run_dry()
    assert hand.events["a"].ends()[doomed].num_tokens == 0
    assert hand.events["b"].ends()[lucky].num_tokens == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exception_in_the_model_fails_the_engine_and_ends_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every question of every stream ends as failed, every stream says why, no more is taken."""
    hand = HandEngine("a", "b", max_answers=1)
    hand.see("a")
    hand.see("b")
    ids = [hand.ask(stream="a"), hand.ask(stream="b"), hand.ask(stream="b")]
    hand.engine.step()
    for name in ("a", "b"):
        hand.frame(name, (56, 56) if name == "a" else (28, 90))
    error = fail_with(RuntimeError("out of luck"))
    monkeypatch.setattr(hand.model.vlm, "append_image_tokens", error)
    with running(hand.engine) as thread:
        thread.join(10.0)
    ends = hand.events["a"].ends() | hand.events["b"].ends()
    assert {ends[i].status for i in ids} == {AnswerStatus.FAILED}
    assert {ends[i].reason for i in ids} == {"RuntimeError: out of luck"}
    for name in ("a", "b"):
        assert hand.events[name].of(SourceState)[-1].condition is SourceCondition.FAILED
        assert len(hand.events[name].of(FrameDropped)) == 1
    with pytest.raises(QuestionRefusedError):
        hand.ask()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exception_while_answering_ends_every_question_as_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that cannot read text fails those under way and those that wait alike."""
    hand = HandEngine("a", max_answers=1)
    hand.see("a")
    ids = [hand.ask(), hand.ask()]
    monkeypatch.setattr(hand.model.vlm, "append_text", fail_with(RuntimeError("no text")))
    with running(hand.engine) as thread:
        thread.join(10.0)
    ends = hand.events["a"].ends()
    assert {ends[i].status for i in ids} == {AnswerStatus.FAILED}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_frame_that_cannot_be_brought_to_the_device_is_accounted_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Running out of memory before the model is reached drops the frame as failed, too."""
    hand = HandEngine("a")
    hand.frame()
    monkeypatch.setattr("stream.frames.fit_grid", fail_with(RuntimeError("out of memory")))
    with running(hand.engine) as thread:
        thread.join(10.0)
    assert [e.reason for e in hand.events["a"].of(FrameDropped)] == [DropReason.FAILED]


def test_closing_the_engine_cancels_what_waits_reads_and_answers() -> None:
    """Questions in the inbox, in the queue and under way all end as cancelled, once."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    ids = [hand.ask(max_tokens=2000), hand.ask()]
    hand.engine.step()
    ids.append(hand.ask())
    hand.engine.close()
    hand.engine.close()
    hand.engine.run()
    ends = hand.events["a"].ends()
    assert [ends[i].status for i in ids] == [AnswerStatus.CANCELLED] * 3
    assert {ends[i].reason for i in ids} == {"the engine has closed"}
    assert hand.buffers["a"].ended


def test_closed_engine_takes_no_stream() -> None:
    """A stream opened too late is refused: nobody would ever take its frames."""
    hand = HandEngine("a", "b")
    hand.engine.close_stream("b", "make room")
    hand.engine.step()
    hand.engine.close()
    hand.engine.run()
    with pytest.raises(ValueError, match="closed"):
        hand.open("b")


def test_commands_that_come_while_the_engine_shuts_down_do_no_harm() -> None:
    """Cancelling and closing from a listener of the last events leaves every question ended."""
    hand = HandEngine("a", "b", max_answers=1)
    hand.see("a")
    hand.see("b")
    ids = [hand.ask(stream="a"), hand.ask(stream="b")]

    def meddle(_: Event) -> None:
        hand.engine.cancel("b", ids[1])
        hand.engine.close_stream("b", "meddling")

    for events in hand.events.values():
        events.then = meddle
    hand.engine.close()
    hand.engine.run()
    assert ids[0] in hand.events["a"].ends() and ids[1] in hand.events["b"].ends()


def test_output_that_is_not_a_number_fails_its_answer_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slot gone bad ends its own question as failed; the other is answered, frames go on."""
    hand = HandEngine("a", max_answers=2)
    hand.see("a", 2)
    bad, good = hand.ask(max_tokens=3, temperature=1.0), hand.ask(max_tokens=3, temperature=1.0)
    vlm = hand.engine._vlm
    append_text = vlm.append_text

    def spoilt(*args: Any) -> torch.Tensor:
        logits = append_text(*args)
        if len(logits) == 2:
            logits[0] = float("nan")
        return logits

    monkeypatch.setattr(vlm, "append_text", spoilt)
    hand.see("a", 100)
    ends = hand.events["a"].ends()
    assert ends[bad].status is AnswerStatus.FAILED and "not a number" in ends[bad].reason
    assert ends[good].status is not AnswerStatus.FAILED and ends[good].num_tokens > 0
    assert len(hand.events["a"].of(FrameDone)) == 102

"""Every accepted question ends exactly once, however it ends, and its events come in order."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stream.events import AnswerDelta, AnswerDone, AnswerStatus
from stream.question import QuestionRefusedError
from tests.stream_helpers import STOP_ID, HandEngine

Script = Callable[[bytes], None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes the model say given bytes and stop, whatever it is asked; one answer at a time."""

    def script(text: bytes) -> None:
        tokens: Iterator[int] = iter([*text, STOP_ID])
        monkeypatch.setattr("stream.answers.sample", lambda *_: next(tokens))

    return script


def test_answer_that_stops_by_itself_is_completed(say: Script) -> None:
    """A stop token ends an answer as completed, with the text before it."""
    hand = HandEngine("a")
    hand.see(count=3)
    say("Grüß dich".encode())
    number = hand.ask(max_tokens=50)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.reason, done.answer) == (AnswerStatus.COMPLETED, "", "Grüß dich")
    assert done.num_tokens == len("Grüß dich".encode())


def test_answer_that_stops_at_once_is_completed_and_empty(say: Script) -> None:
    """A stop token as the first token gives an empty answer, no delta, and a first-token time."""
    hand = HandEngine("a")
    hand.see()
    say(b"")
    number = hand.ask()
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.answer, done.num_tokens) == (AnswerStatus.COMPLETED, "", 0)
    assert done.time_to_first_token_s is not None
    assert not hand.events["a"].of(AnswerDelta)


def test_character_of_several_tokens_comes_in_one_piece(say: Script) -> None:
    """No delta holds half a character, and what was said half is left out."""
    hand = HandEngine("a")
    hand.see()
    say("é€".encode() + b"\xe2\x82")
    number = hand.ask(max_tokens=50)
    hand.run_dry()
    assert [e.text for e in hand.events["a"].of(AnswerDelta)] == ["é", "€"]
    assert hand.events["a"].ends()[number].answer == "é€"


def test_answer_that_is_too_long_is_incomplete() -> None:
    """At max_tokens an answer ends as incomplete and says so."""
    hand = HandEngine("a")
    hand.see(count=2)
    number = hand.ask(max_tokens=7)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.reason) == (AnswerStatus.INCOMPLETE, "cut at 7 tokens")
    assert done.num_tokens == 7


def test_deltas_are_numbered_and_add_up_to_the_answer() -> None:
    """Joined deltas are the answer, and the end comes after all of them."""
    hand = HandEngine("a")
    hand.see(count=4)
    number = hand.ask(max_tokens=20)
    hand.run_dry()
    events = hand.events["a"]
    assert events.text(number) == events.ends()[number].answer != ""
    assert isinstance(events[-1], AnswerDone)


def test_deadline_while_waiting_ends_the_question_unanswered() -> None:
    """A question still in the queue at its deadline ends with nothing seen."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    hand.ask(max_tokens=500)
    late = hand.ask(deadline_s=hand.clock() + 1.0)
    hand.engine.step()
    hand.clock.advance(1.0)
    hand.engine.step()
    done = hand.events["a"].ends()[late]
    assert (done.status, done.reason) == (AnswerStatus.INCOMPLETE, "the deadline has passed")
    assert (done.last_seq, done.queue_s, done.num_tokens) == (None, None, 0)


def test_deadline_while_answering_keeps_what_was_said() -> None:
    """At its deadline an answer is cut: what was said until then is the answer."""
    hand = HandEngine("a")
    hand.see()
    number = hand.ask(max_tokens=500, deadline_s=hand.clock() + 1.0)
    hand.step_until(lambda: len(hand.events["a"].of(AnswerDelta)) == 3)
    hand.clock.advance(2.0)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert done.status is AnswerStatus.INCOMPLETE
    assert done.answer == hand.events["a"].text(number)
    assert done.num_tokens >= 3


def test_deadline_of_a_question_before_the_first_frame_passes() -> None:
    """A question that waits for a stream to begin ends at its deadline, too."""
    hand = HandEngine("a")
    number = hand.ask(deadline_s=hand.clock() + 1.0)
    hand.engine.step()
    assert not hand.events["a"].ends()
    hand.clock.advance(1.5)
    hand.engine.step()
    assert hand.events["a"].ends()[number].status is AnswerStatus.INCOMPLETE


@pytest.mark.parametrize("steps", [0, 1, 3, 60])
def test_cancelled_question_ends_wherever_it_is(steps: int) -> None:
    """Unread, while its prompt is read, while it is answered: it ends as cancelled, once."""
    hand = HandEngine("a")
    hand.see()
    number = hand.ask(max_tokens=500)
    for _ in range(steps):
        hand.engine.step()
    hand.engine.cancel("a", number)
    hand.engine.cancel("a", number)
    hand.run_dry()
    hand.engine.cancel("a", number)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.reason) == (AnswerStatus.CANCELLED, "cancelled by the asker")
    assert (done.num_tokens > 0) == (steps == 60)


def test_cancelled_while_waiting_for_a_slot() -> None:
    """A question in the queue behind another ends at once; the other is not touched."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    first, second = hand.ask(max_tokens=9), hand.ask(max_tokens=9)
    hand.engine.step()
    hand.engine.cancel("a", second)
    hand.engine.step()
    assert list(hand.events["a"].ends()) == [second]
    hand.run_dry()
    assert hand.events["a"].ends()[first].num_tokens == 9


def test_cancelling_is_for_one_stream_alone() -> None:
    """Two sessions number their questions alike: cancelling one's leaves the other's alone."""
    hand = HandEngine("a", "b")
    hand.see("a")
    hand.see("b")
    number = hand.ask(stream="a", max_tokens=6)
    hand._next_id = number
    assert hand.ask(stream="b", max_tokens=6) == number
    hand.engine.cancel("a", number)
    hand.run_dry()
    assert hand.events["a"].ends()[number].status is AnswerStatus.CANCELLED
    assert hand.events["b"].ends()[number].num_tokens == 6


def test_closing_a_stream_cancels_its_questions_alone() -> None:
    """Waiting and answering questions of the closed stream end; another stream's goes on."""
    hand = HandEngine("a", "b", max_answers=2)
    hand.see("a")
    hand.see("b")
    mine = [hand.ask(stream="a", max_tokens=500), hand.ask(stream="a")]
    other = hand.ask(stream="b", max_tokens=8)
    hand.engine.step()
    mine.append(hand.ask(stream="a"))
    hand.engine.close_stream("a", "the user left")
    with pytest.raises(QuestionRefusedError, match="no open stream"):
        hand.ask(stream="a")
    hand.run_dry()
    ends = hand.events["a"].ends()
    assert {ends[i].status for i in mine} == {AnswerStatus.CANCELLED}
    assert {ends[i].reason for i in mine} == {"the user left"}
    assert hand.events["b"].ends()[other].num_tokens == 8


def test_full_queue_refuses_at_once_and_has_room_again() -> None:
    """One question too many is refused; when one has ended, the next is accepted."""
    hand = HandEngine("a", max_questions=2, max_answers=1)
    hand.see()
    hand.ask()
    hand.ask()
    for _ in range(2):
        with pytest.raises(QuestionRefusedError, match="2 questions are open"):
            hand.ask()
    hand.step_until(lambda: len(hand.events["a"].ends()) == 1)
    hand.ask()
    with pytest.raises(QuestionRefusedError):
        hand.ask()
    hand.run_dry()
    assert len(hand.events["a"].ends()) == 3
    for _ in range(2):
        hand.ask()


def test_cancelled_and_late_questions_make_room() -> None:
    """However a question ends, the next one finds its place and its slot free."""
    hand = HandEngine("a", max_questions=1, max_answers=1)
    hand.see()
    for number in range(6):
        deadline = hand.clock() + 1.0 if number % 3 == 0 else None
        asked = hand.ask(max_tokens=40, deadline_s=deadline)
        for _ in range(number * 8):
            hand.engine.step()
        hand.clock.advance(2.0)
        hand.engine.cancel("a", asked)
        hand.run_dry()
        assert asked in hand.events["a"].ends()


def test_questions_wait_their_turn() -> None:
    """With one slot, questions are answered in the order they were asked."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    ids = [hand.ask(f"Question {i}?") for i in range(4)]
    hand.run_dry()
    assert list(hand.events["a"].ends()) == ids


def test_stream_without_frames_keeps_nobody_else_waiting() -> None:
    """A question to a stream that has seen nothing waits; one asked later elsewhere does not."""
    hand = HandEngine("a", "b", max_answers=1)
    hand.see("b")
    early, other = hand.ask(stream="a"), hand.ask(stream="b")
    hand.run_dry()
    assert not hand.events["a"].ends()
    assert other in hand.events["b"].ends()
    hand.see("a")
    hand.run_dry()
    assert hand.events["a"].ends()[early].num_frames == 1


def test_questions_of_all_lengths_are_read_in_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are made and kept for every shape, so each would add to the memory."""
    hand = HandEngine("a")
    hand.see()
    append, lengths = hand.model.vlm.append_text, set[int]()

    def spy(ids: Any, *rest: Any) -> Any:
        lengths.add(ids.shape[1])
        return append(ids, *rest)

    monkeypatch.setattr(hand.model.vlm, "append_text", spy)
    for size in range(1, 9):
        hand.ask("?" * size, asker=str(size), max_tokens=1)
        hand.run_dry()
    assert len(hand.events["a"].ends()) == 8
    assert lengths == {1, 2, 4}


def test_a_long_question_does_not_hold_up_a_short_one() -> None:
    """What is left of a step's budget is the long one's; it is answered, too."""
    hand = HandEngine("a")
    hand.see()
    long, short = hand.ask("long " * 200, asker="one"), hand.ask("What?", asker="other")
    steps = 0
    while short not in hand.events["a"].ends():
        hand.see()
        steps += 1
    assert steps < 30
    hand.run_dry()
    assert set(hand.events["a"].ends()) == {long, short}

"""The engine's promises: frames first, every frame and question ends, failures stay alone."""

import threading
from typing import Any

import pytest
import torch

from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from stream.engine import Engine, EngineConfig
from stream.events import (
    AnswerDone,
    DropReason,
    FrameDone,
    FrameDropped,
)
from stream.question import Question, SamplingParams
from tests.stream_helpers import (
    FRAME_TOKENS,
    Events,
    HandEngine,
    running,
    slot_tensors,
    video_frame,
)


def test_idle_engine_has_nothing_to_do() -> None:
    """A step without frames and questions says so."""
    assert HandEngine("a").engine.step() is False


def test_each_step_takes_one_frame_of_every_stream() -> None:
    """Two streams with two frames each are through after two steps, side by side."""
    hand = HandEngine("a", "b")
    for name in ("a", "b", "a", "b"):
        hand.frame(name)
    hand.engine.step()
    assert [len(hand.events[name].of(FrameDone)) for name in "ab"] == [1, 1]
    hand.engine.step()
    assert [e.seq for e in hand.events["a"].of(FrameDone)] == [0, 1]
    assert [e.seq for e in hand.events["b"].of(FrameDone)] == [0, 1]
    assert hand.engine.step() is False


def test_frame_done_names_every_stage() -> None:
    """A frame's record splits its time into decode, wait, preprocess, vision and decoder."""
    hand = HandEngine("a")
    hand.frame()
    hand.clock.advance(0.25)
    hand.engine.step()
    (done,) = hand.events["a"].of(FrameDone)
    assert list(done.stages_s) == ["decode", "wait", "preprocess", "vision", "decoder"]
    assert done.stages_s["wait"] == 0.25
    assert done.done_s == hand.clock()


def test_streams_that_share_a_step_remember_what_they_would_alone() -> None:
    """Batching two streams leaves each with the state it would have had by itself."""
    both, alone = HandEngine("a", "b"), HandEngine("a")
    for _ in range(12):
        both.frame("a")
        both.frame("b", (84, 28))
        both.engine.step()
    alone.see("a", 12)
    for mine, reference in zip(
        slot_tensors(both.engine, 1), slot_tensors(alone.engine, 1), strict=True
    ):
        assert torch.allclose(mine.double(), reference.double(), atol=1e-5)


def test_pictures_of_different_shapes_share_a_step() -> None:
    """Streams with unlike pictures each get their frame in one step."""
    hand = HandEngine("a", "b")
    hand.frame("a", (56, 56))
    hand.frame("b", (40, 100))
    assert hand.engine.step()
    assert [len(hand.events[name].of(FrameDone)) for name in "ab"] == [1, 1]


def test_grid_of_the_config_is_used_for_every_picture() -> None:
    """With a fixed grid a frame of any shape becomes as many tokens."""
    hand = HandEngine("a")
    engine = Engine(hand.model, EngineConfig(FRAME_TOKENS, grid=(1, 3)), hand.clock)
    hand.engine = engine
    hand.open("fixed")
    hand.see("fixed", 2, (300, 40))
    assert int(engine.pool.num_tokens[1]) == 1 + 2 * 3


def test_frames_go_on_while_an_answer_is_made() -> None:
    """With a frame at every step, each step publishes its frame before any of the answer."""
    hand = HandEngine("a")
    hand.see()
    hand.ask(max_tokens=8)
    events, steps = hand.events["a"], 0
    while not events.ends():
        before = len(events)
        hand.frame()
        hand.engine.step()
        assert isinstance(events[before], FrameDone)
        steps += 1
    assert len(events.of(FrameDone)) == 1 + steps
    prompt = len(hand.model.tokenizer.question_prompt("What?"))
    # The first token comes with the last slice of the prompt, every other with a step of its own.
    reading = -(-prompt // FRAME_TOKENS)
    assert steps in (reading + 6, reading + 7)


def test_answering_leaves_the_stream_as_it_was() -> None:
    """Bit by bit, the stream's slot is the same before and after a question."""
    hand = HandEngine("a")
    hand.see(count=10)
    before = slot_tensors(hand.engine, 1)
    hand.ask(max_tokens=30)
    assert hand.run_dry() > 20
    after = slot_tensors(hand.engine, 1)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_taken_name_and_too_many_streams_are_refused() -> None:
    """A second stream of one name, or more streams than slots, is a ValueError."""
    hand = HandEngine("a", "b")
    with pytest.raises(ValueError, match="already"):
        hand.open("a")
    with pytest.raises(ValueError, match="slots are taken"):
        hand.open("c")


def test_closed_stream_makes_room_and_its_slot_starts_anew() -> None:
    """A slot that is used again holds nothing of the stream before."""
    hand = HandEngine("a")
    hand.see(count=9)
    hand.engine.close_stream("a", "enough")
    hand.engine.step()
    hand.open("b")
    hand.see("b", 2)
    fresh = HandEngine("b")
    fresh.see("b", 2)
    for x, y in zip(slot_tensors(hand.engine, 1), slot_tensors(fresh.engine, 1), strict=True):
        assert torch.equal(x, y)


def test_closing_a_stream_accounts_for_the_frames_that_waited() -> None:
    """Frames still in the buffer are dropped as closed, and the buffer takes no more."""
    hand = HandEngine("a")
    hand.see()
    hand.frame()
    hand.frame()
    hand.engine.close_stream("a", "enough")
    hand.engine.step()
    dropped = hand.events["a"].of(FrameDropped)
    assert [(e.seq, e.reason) for e in dropped] == [
        (1, DropReason.CLOSED),
        (2, DropReason.CLOSED),
    ]
    assert not hand.buffers["a"].put(ScheduledFrame(video_frame(9), 9, None))


def test_closing_twice_frees_one_slot() -> None:
    """Closing a stream again, or one that never was, changes nothing."""
    hand = HandEngine("a", "b")
    hand.engine.close_stream("a", "one")
    hand.engine.close_stream("a", "two")
    hand.engine.close_stream("nobody", "three")
    hand.engine.step()
    hand.open("c")
    with pytest.raises(ValueError, match="slots are taken"):
        hand.open("d")


def test_stream_that_ended_is_gone_before_its_last_event() -> None:
    """Whoever waits for the last event of a closed stream can open its name again at once."""
    hand = HandEngine("a")
    hand.see()
    hand.ask(max_tokens=50)
    hand.engine.step()
    reopened: list[int] = []

    def reopen(event: object) -> None:
        if isinstance(event, AnswerDone):
            hand.open("a")
            reopened.append(1)

    hand.events["a"].then = reopen
    hand.engine.close_stream("a", "enough")
    hand.engine.step()
    assert reopened == [1]
    hand.see()
    assert len(hand.events["a"].of(FrameDone)) == 1


def test_no_frame_is_taken_before_its_stream_was_begun() -> None:
    """A stream opened after a step took its commands is not touched until the next step."""
    hand = HandEngine("a")
    hand.engine.close_stream("a", "make room")
    hand.engine.step()
    late = HandEngine.open

    class OpensLate(dict):  # type: ignore[type-arg]
        """Opens a stream with a frame in it just as the engine looks for frames."""

        done = False

        def values(self) -> Any:
            if not self.done:
                self.done = True
                late(hand, "b")
                hand.frame("b")
            return super().values()

    for name, value in list(vars(hand.engine).items()):
        if isinstance(value, dict):
            setattr(hand.engine, name, OpensLate(value))
    hand.engine.step()
    hand.engine.step()
    fresh = HandEngine("b")
    fresh.see("b")
    for x, y in zip(slot_tensors(hand.engine, 1), slot_tensors(fresh.engine, 1), strict=True):
        assert torch.equal(x, y)


def test_engine_on_a_thread_wakes_for_frames_questions_and_close() -> None:
    """Nothing is left lying however the calls of many threads fall."""
    hand = HandEngine("a", max_questions=200)
    events = hand.events["a"]
    with running(hand.engine):
        for _ in range(30):
            hand.frame()
        askers = [
            threading.Thread(target=hand.engine.ask, args=(_question(hand, number),))
            for number in range(20)
        ]
        for thread in askers:
            thread.start()
        for thread in askers:
            thread.join()
        assert events.wait_for(lambda: len(events.of(AnswerDone)) == 20)
        assert events.wait_for(lambda: len(events.of(FrameDone)) == 30)
    assert len(events.ends()) == 20


def _question(hand: HandEngine, number: int) -> Question:
    return Question(number, "a", str(number), "?", hand.clock(), None, SamplingParams(2))


def test_warming_up_leaves_no_trace() -> None:
    """After a warm-up every slot is as new, and a stream sees what it would have seen without."""
    warm, cold = HandEngine("a"), HandEngine("a")
    before = [tensor.clone() for tensor in warm.engine.pool.tensors()]
    warm.engine.warm_up(56, 56)
    after = warm.engine.pool.tensors()
    assert all(torch.equal(a[1:], b[1:]) for a, b in zip(before, after, strict=True))
    for hand in (warm, cold):
        hand.see("a", 3)
    tensors = zip(warm.engine.pool.tensors(), cold.engine.pool.tensors(), strict=True)
    assert all(torch.equal(a[1:], b[1:]) for a, b in tensors)


def test_streams_that_are_due_together_meet_no_new_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are made and kept for every number of pictures, so all are made at the start."""
    hand, counts = HandEngine("a", "b", "c"), list[int]()
    append = hand.model.vlm.append_image_tokens

    def spy(tokens: torch.Tensor, *rest: Any, **wanted: Any) -> None:
        counts.append(len(tokens))
        append(tokens, *rest, **wanted)

    monkeypatch.setattr(hand.model.vlm, "append_image_tokens", spy)
    hand.engine.warm_up(56, 56)
    warm = set(counts)
    for names in ("a", "ab", "abc"):
        counts.clear()
        for name in names:
            hand.frame(name)
        hand.engine.step()
        assert counts == [len(names)]
        assert set(counts) <= warm


def test_found_source_begins_anew_only_if_it_is_to() -> None:
    """With reset_on_gap the frames after a gap are remembered as if they were the first."""
    for reset in (True, False):
        hand = HandEngine("a", reset_on_gap=reset)
        hand.see(count=5)
        hand.lose_source()
        hand.see(count=2)
        fresh = HandEngine("a")
        frames = [5, 6] if reset else range(7)
        for seq in frames:
            frame = video_frame(seq, pts_s=(seq - frames[0]) / 25, arrived_s=100.0)
            assert fresh.buffers["a"].put(ScheduledFrame(frame, seq, None))
            fresh.engine.step()
        for x, y in zip(slot_tensors(hand.engine, 1), slot_tensors(fresh.engine, 1), strict=True):
            assert torch.equal(x, y)
        number = hand.ask()
        hand.run_dry()
        assert hand.events["a"].ends()[number].num_frames == (2 if reset else 7)


def test_streams_that_have_ended_take_no_time_from_others() -> None:
    """They can still be asked about, and keep their slots."""
    hand = HandEngine("a", "b")
    hand.engine.close_stream("b", "it makes room")
    hand.engine.step()
    hand.engine._steps.frames_s = {1: 0.03}  # a device that holds one stream
    hand.engine._streams["a"].fps = 25.0
    new = FrameBuffer(4, FullPolicy.WAIT, lambda _: None, hand.engine.wake)
    with pytest.raises(ValueError, match="too many for this device"):
        hand.engine.open_stream("c", new, Events(), fps=25.0)
    hand.buffers["a"].close()
    hand.engine.open_stream("c", new, Events(), fps=25.0)

"""A session on real threads: questions at their moments, one end each, and a wait that returns."""

import threading
from typing import Any

import pytest

from sources.open import open_source
from stream.engine import Engine, EngineConfig
from stream.events import (
    AnswerDelta,
    AnswerDone,
    AnswerStatus,
    Event,
    FrameDone,
    QuestionAccepted,
    SourceCondition,
)
from stream.question import AT_END, QuestionRefusedError, SamplingParams
from stream.session import StreamConfig, StreamSession
from tests.stream_helpers import (
    FRAME_TOKENS,
    PATIENCE_S,
    Events,
    FakeClock,
    ScriptedSource,
    loaded,
    running,
    scripted,
    video_frame,
)
from tests.watched_session import ENDLESS, SHORT, Watch


def test_frames_and_questions_of_a_whole_stream(engine: Engine) -> None:
    """Thirty frames and questions at the start, in between and at the end, all seen through."""
    watch = Watch(open_source("synthetic:64x64@25#30"), engine)
    at_once, middle = watch.ask("First?"), watch.ask("Half?", at_s=0.6)
    last = watch.ask("And?", at_s=AT_END)
    watch.session.start()
    ends = watch.finish()
    assert [e.seq for e in watch.events.of(FrameDone)] == list(range(30))
    assert {done.num_tokens for done in ends.values()} == {4}
    assert ends[at_once].num_frames >= 1
    assert ends[middle].num_frames >= 16
    assert ends[last].num_frames == 30
    for number, done in ends.items():
        assert watch.events.text(number) == done.answer
    state = watch.session.source_state
    assert state is not None and state.condition is SourceCondition.ENDED


def test_events_of_a_question_come_in_order(engine: Engine) -> None:
    """Accepted, then the deltas, then the end, also when asked while the stream runs."""
    watch = Watch(scripted(5, holds=True), engine)
    watch.session.start()
    assert watch.events.wait_for(lambda: len(watch.events.of(FrameDone)) == 5)
    number = watch.ask(sampling=SamplingParams(max_tokens=30))
    assert watch.events.wait_for(lambda: number in watch.events.ends())
    watch.session.stop()
    watch.finish()
    mine = [e for e in watch.events if getattr(e, "question_id", None) == number]
    kinds = [type(e) for e in mine]
    assert kinds[0] is QuestionAccepted and kinds[-1] is AnswerDone
    assert len(kinds) > 2 and set(kinds[1:-1]) == {AnswerDelta}


def test_moment_that_is_never_reached_is_cancelled(engine: Engine) -> None:
    """A question for a time beyond the stream's end says where the stream ended."""
    watch = Watch(scripted(6), engine)
    number = watch.ask(at_s=60.0)
    watch.session.start()
    done = watch.finish()[number]
    assert (done.status, done.reason) == (AnswerStatus.CANCELLED, "the stream ended at 0.2 s")
    late = watch.ask(at_s=60.0)
    assert watch.finish()[late].status is AnswerStatus.CANCELLED


def test_stream_without_a_frame_cancels_its_questions(engine: Engine) -> None:
    """Questions to a stream that ends before its first frame end as cancelled and say so."""
    watch = Watch(scripted(0), engine)
    ids = [watch.ask(), watch.ask(at_s=3.0), watch.ask(at_s=AT_END)]
    watch.session.start()
    ends = watch.finish()
    assert {ends[i].reason for i in ids} == {"the stream ended before its first frame"}


def test_what_was_seen_can_be_asked_about_after_the_end(engine: Engine) -> None:
    """When the source has ended, the stream still answers, at once and for AT_END."""
    watch = Watch(scripted(4), engine)
    watch.session.start()
    watch.finish()
    ids = [watch.ask(), watch.ask(at_s=AT_END), watch.ask(at_s=0.1)]
    ends = watch.finish()
    assert {ends[i].num_frames for i in ids} == {4}


def test_wait_is_false_while_the_stream_goes_on(engine: Engine) -> None:
    """A wait that runs out of time says so."""
    watch = Watch(scripted(2, holds=True), engine)
    watch.session.start()
    assert watch.session.wait(0.05) is False
    watch.session.stop()
    assert watch.session.wait(PATIENCE_S)


def test_two_sessions_on_one_engine_are_independent(engine: Engine) -> None:
    """Cancelling a question of one leaves the other's of the same number, as does stopping."""
    one, two = (Watch(scripted(3, holds=True), engine, name) for name in ("one", "two"))
    for watch in (one, two):
        watch.session.start()
        assert watch.events.wait_for(lambda: bool(watch.events.of(FrameDone)))  # noqa: B023
    mine = one.ask(sampling=ENDLESS)
    other = two.ask(sampling=SamplingParams(max_tokens=40))
    assert mine == other
    one.session.cancel(mine)
    assert two.events.wait_for(lambda: other in two.events.ends())
    one.session.stop()
    assert one.finish()[mine].status is AnswerStatus.CANCELLED
    again = two.ask()
    assert two.events.wait_for(lambda: again in two.events.ends())
    two.session.stop()
    ends = two.finish()
    assert (ends[other].num_tokens, ends[again].num_tokens) == (40, 4)


def test_scheduled_question_can_be_cancelled(engine: Engine) -> None:
    """It ends at once, the others keep their moment, and unknown numbers do nothing."""
    watch = Watch(scripted(4), engine)
    first, second = watch.ask(at_s=0.1), watch.ask(at_s=0.1)
    watch.session.cancel(first)
    watch.session.cancel(first)
    watch.session.cancel(12345)
    assert list(watch.events.ends()) == [first]
    watch.session.start()
    ends = watch.finish()
    assert ends[first].reason == "cancelled by the asker"
    assert ends[second].num_tokens == 4


def test_deadline_of_a_scheduled_question_counts_from_its_moment() -> None:
    """A question that waits an hour for its moment has its whole second after that."""
    clock = [0.0]
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS), lambda: clock[0])
    gate = threading.Event()

    class Gated(ScriptedSource):
        def read(self) -> Any:
            frame = super().read()
            if frame is not None and frame.seq == 1:
                gate.wait(PATIENCE_S)
            return frame

    source = Gated(map(video_frame, range(3)))
    session = StreamSession(source, engine, StreamConfig(fps=None), lambda: clock[0])
    events = Events()
    session.subscribe(events)
    number = session.ask("?", at_s=0.04, deadline_s=1.0, sampling=SHORT)
    with running(engine):
        session.start()
        assert events.wait_for(lambda: bool(events.of(FrameDone)))
        clock[0] = 3600.0
        gate.set()
        assert session.wait(PATIENCE_S)
    done = events.ends()[number]
    assert (done.num_tokens, done.total_s) == (4, 0.0)


def test_deadline_of_a_question_to_a_camera_that_is_absent_passes() -> None:
    """It counts from the asking, and gives the room back, although no frame ever comes."""
    clock = FakeClock()
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_questions=1), clock)
    session = StreamSession(
        scripted(0, live=True, holds=True), engine, StreamConfig(fps=None), clock
    )
    events = Events()
    session.subscribe(events)
    with running(engine):
        session.start()
        for _ in range(2):
            number = session.ask("?", deadline_s=1.0)
            clock.advance(1.5)
            assert events.wait_for(lambda number=number: number in events.ends())
            done = events.ends()[number]
            assert (done.status, done.total_s) == (AnswerStatus.INCOMPLETE, 1.5)
        session.stop()


def test_a_question_to_a_stream_that_ends_without_a_frame_ends(engine: Engine) -> None:
    """Asked before its start, while nothing comes, or after the end."""
    source = scripted(0, holds=True)
    watch = Watch(source, engine)
    early = watch.ask()
    watch.session.start()
    meanwhile = watch.ask()
    source.close()
    assert watch.session.wait(PATIENCE_S)
    late = watch.ask()
    ends = watch.finish()
    for number in (early, meanwhile, late):
        assert ends[number].status is AnswerStatus.CANCELLED
        assert ends[number].reason == "the stream ended before its first frame"


def test_scheduled_questions_have_their_room_from_the_start() -> None:
    """With room for two a third is refused at once, and the two are answered in their moment."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_questions=2))
    watch = Watch(scripted(3), engine)
    ids = [watch.ask(at_s=AT_END) for _ in range(2)]
    with pytest.raises(QuestionRefusedError, match="2 questions are open, which is the limit"):
        watch.ask(at_s=AT_END)
    with running(engine):
        watch.session.start()
        ends = watch.finish()
    assert [ends[i].status for i in ids] == [AnswerStatus.INCOMPLETE] * 2


def test_room_returns_however_a_scheduled_question_ends() -> None:
    """Cancelled, never reached or answered: afterwards there is room for as many again."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_questions=3))
    watch = Watch(scripted(3), engine)
    watch.session.cancel(watch.ask(at_s=AT_END))
    watch.ask(at_s=AT_END)
    watch.ask(at_s=1e6)
    watch.ask(at_s=0.0)
    with running(engine):
        watch.session.start()
        watch.finish()
        for _ in range(3):
            watch.ask()
        with pytest.raises(QuestionRefusedError, match="3 questions are open"):
            watch.ask()
        watch.finish()


def test_listener_may_leave(engine: Engine) -> None:
    """After unsubscribing, also from within a call and twice, a listener hears nothing more."""
    watch = Watch(scripted(6), engine)
    heard: list[Event] = []

    def once(event: Event) -> None:
        heard.append(event)
        leave()
        leave()

    leave = watch.session.subscribe(once)
    watch.session.start()
    watch.finish()
    assert len(heard) == 1
    assert len(watch.events.of(FrameDone)) == 6


def test_listener_may_ask(engine: Engine) -> None:
    """A question asked from within an event, on the engine's own thread, is answered."""
    watch = Watch(scripted(6), engine)
    asked: list[int] = []

    def curious(event: Event) -> None:
        if isinstance(event, FrameDone) and event.seq == 2:
            asked.append(watch.ask())

    watch.session.subscribe(curious)
    watch.session.start()
    assert watch.finish()[asked[0]].num_tokens == 4

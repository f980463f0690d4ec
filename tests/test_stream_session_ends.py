"""Sessions that are stopped, fail or are pestered: everything ends once, and waiting returns."""

import threading
from typing import Any

import pytest

from sources.errors import SourceOpenError
from sources.open import open_source
from stream.engine import Engine, EngineConfig
from stream.events import (
    AnswerDelta,
    AnswerStatus,
    DropReason,
    Event,
    FrameAdmitted,
    FrameDone,
    FrameDropped,
    SourceCondition,
    SourceState,
)
from stream.question import AT_END, QuestionRefusedError
from tests.stream_helpers import (
    FRAME_TOKENS,
    PATIENCE_S,
    ScriptedSource,
    loaded,
    running,
    scripted,
    video_frame,
)
from tests.watched_session import ENDLESS, Watch


def test_stop_cancels_everything_once(engine: Engine) -> None:
    """Scheduled, waiting and answering questions end as cancelled with the reason, once."""
    watch = Watch(scripted(3, holds=True), engine)
    watch.session.start()
    ids = [watch.ask(sampling=ENDLESS) for _ in range(6)]
    ids += [watch.ask(at_s=99.0), watch.ask(at_s=AT_END)]
    assert watch.events.wait_for(lambda: bool(watch.events.of(AnswerDelta)))
    watch.session.stop("enough")
    watch.session.stop("again")
    ends = watch.finish()
    assert {ends[i].status for i in ids} == {AnswerStatus.CANCELLED}
    assert {ends[i].reason for i in ids} == {"enough"}
    with pytest.raises(QuestionRefusedError, match="stopped"):
        watch.ask()
    with pytest.raises(QuestionRefusedError, match="stopped"):
        watch.ask(at_s=99.0)


def test_stop_of_a_session_that_never_started(engine: Engine) -> None:
    """Its questions are cancelled and its wait returns."""
    watch = Watch(scripted(3), engine)
    number = watch.ask()
    watch.session.stop("changed my mind")
    assert watch.finish()[number].reason == "changed my mind"


def test_stopped_session_leaves_a_later_one_of_the_same_name(engine: Engine) -> None:
    """A name is free once its session has been waited for, and stopping again harms nobody."""
    first = Watch(scripted(2, holds=True), engine)
    first.session.start()
    number = first.ask(sampling=ENDLESS)
    assert first.events.wait_for(lambda: bool(first.events.of(AnswerDelta)))
    first.session.stop()
    assert number in first.finish()
    second = Watch(scripted(3, holds=True), engine)
    second.session.start()
    first.session.stop()
    assert second.events.wait_for(lambda: len(second.events.of(FrameDone)) == 3)
    number = second.ask()
    assert second.events.wait_for(lambda: number in second.events.ends())
    assert second.events.ends()[number].num_tokens == 4
    second.session.stop()
    second.finish()


def test_source_that_fails_midway_ends_the_stream(engine: Engine) -> None:
    """Frames before the failure count, the state says why, and later moments are cancelled."""
    source = ScriptedSource([video_frame(0), video_frame(1), SourceOpenError("It was unplugged.")])
    watch = Watch(source, engine)
    early, late = watch.ask(), watch.ask(at_s=9.0)
    watch.session.start()
    ends = watch.finish()
    state = watch.session.source_state
    assert state is not None
    assert (state.condition, state.detail) == (SourceCondition.FAILED, "It was unplugged.")
    assert len(watch.events.of(FrameDone)) == 2
    assert ends[early].num_tokens == 4
    assert ends[late].status is AnswerStatus.CANCELLED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_source_that_breaks_its_promise_does_not_hang_the_session(engine: Engine) -> None:
    """An exception that is no SourceError fails the stream; waiting for it returns."""
    watch = Watch(ScriptedSource([video_frame(0), KeyError("oops")]), engine)
    watch.session.start()
    watch.finish()
    state = watch.session.source_state
    assert state is not None and state.condition is SourceCondition.FAILED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_engine_that_dies_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames and questions end, the state is failed, and waiting and stopping return."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    calls = iter(range(1000))

    def fail_later(*_: Any, **__: Any) -> None:
        if next(calls) == 3:
            raise RuntimeError("device lost")

    monkeypatch.setattr(loaded().vlm, "append_image_tokens", fail_later)
    watch = Watch(scripted(50), engine)
    ids = [watch.ask(at_s=9.0), watch.ask(at_s=AT_END)]
    with running(engine):
        watch.session.start()
        ends = watch.finish()
    watch.session.stop()
    assert {ends[i].status for i in ids} <= {AnswerStatus.FAILED, AnswerStatus.CANCELLED}
    state = watch.session.source_state
    assert state is not None
    assert (state.condition, state.detail) == (SourceCondition.FAILED, "RuntimeError: device lost")
    assert DropReason.FAILED in {e.reason for e in watch.events.of(FrameDropped)}


def test_engine_that_is_closed_ends_the_session() -> None:
    """Closing the engine under a running stream cancels its questions, and waiting returns."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    watch = Watch(open_source("synthetic:64x64@25"), engine)
    with running(engine):
        watch.session.start()
        number = watch.ask(sampling=ENDLESS)
        later = watch.ask(at_s=1e6)
        assert watch.events.wait_for(lambda: bool(watch.events.of(AnswerDelta)))
        engine.close()
        ends = watch.finish()
    assert ends[number].reason == "the engine has closed"
    assert ends[later].status is AnswerStatus.CANCELLED


def test_listener_that_raises_harms_nobody(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not called again, the log says so once, and stream and answers go on."""
    watch = Watch(scripted(6), engine)
    calls: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise OSError("nobody reads")

    watch.session.subscribe(broken)
    number = watch.ask()
    watch.session.start()
    assert watch.finish()[number].num_tokens == 4
    assert len(calls) == 1
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [OSError]


def test_live_source_overwrites_and_reports_it() -> None:
    """A camera faster than a blocked engine loses its oldest frames, each said to be overrun."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    watch = Watch(scripted(10, live=True), engine)
    watch.session.start()
    assert watch.events.wait_for(
        lambda: any(e.condition is SourceCondition.ENDED for e in watch.events.of(SourceState))
    )
    assert watch.session.wait(0.0) is False
    with running(engine):
        watch.finish()
    dropped = watch.events.of(FrameDropped)
    assert [(e.seq, e.reason) for e in dropped] == [(i, DropReason.OVERRUN) for i in range(8)]
    assert [e.seq for e in watch.events.of(FrameDone)] == [8, 9]
    assert len(watch.events.of(FrameAdmitted)) == 10


@pytest.mark.parametrize("seed", range(3))
def test_storm_of_questions_cancels_and_a_stop(engine: Engine, seed: int) -> None:
    """However many threads ask, cancel and stop at once, every accepted question ends once."""
    watch = Watch(open_source("synthetic:32x32@25"), engine)
    watch.session.start()
    accepted: list[int] = []

    def pester(number: int) -> None:
        for i in range(15):
            try:
                question = watch.ask(
                    asker=str(number), at_s=[0.0, 0.2, AT_END, 1e9][(i + number + seed) % 4]
                )
            except QuestionRefusedError:
                continue
            accepted.append(question)
            if i % 3 == 0:
                watch.session.cancel(question)

    threads = [threading.Thread(target=pester, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    if seed:
        threads[0].join(0.05 * seed)
    watch.session.stop()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert sorted(watch.finish()) == sorted(accepted)


def test_a_session_that_was_stopped_is_not_started(engine: Engine) -> None:
    """It would keep a slot of the engine that nothing gives back."""
    watch = Watch(scripted(3, holds=True), engine)
    watch.session.stop()
    with pytest.raises(ValueError, match="stopped"):
        watch.session.start()
    assert not engine._streams


def test_that_it_failed_is_the_last_word_on_a_stream(engine: Engine) -> None:
    """Its reader, which ends as well, has nothing to add, whichever of them comes first."""
    watch = Watch(scripted(1, holds=True), engine)
    states = [
        SourceState("stream", condition, "why", 0.0)
        for condition in (SourceCondition.LIVE, SourceCondition.FAILED, SourceCondition.ENDED)
    ]
    for state in states:
        watch.session._publish(state)
    assert watch.events.of(SourceState) == states[:2]
    assert watch.session.source_state == states[1]

"""Several named streams on one engine: names, places, listeners and ends."""

import threading
from collections.abc import Iterator

import pytest

from sources.errors import SourceError
from stream.engine import Engine, EngineConfig
from stream.events import (
    AnswerStatus,
    FrameDone,
    SourceCondition,
    SourceState,
)
from stream.question import SamplingParams
from stream.registry import (
    StreamRefusedError,
    StreamRegistry,
    UnknownStreamError,
    check_name,
)
from stream.session import StreamConfig
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

FAST = StreamConfig(fps=None)
SHORT = SamplingParams(max_tokens=3)


def make(capacity: int = 3) -> StreamRegistry:
    """A registry on an engine that does not run."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=capacity))
    return StreamRegistry(engine, capacity)


@pytest.fixture
def streams() -> Iterator[StreamRegistry]:
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=3))
    with running(engine):
        streams = StreamRegistry(engine, 3)
        yield streams
        assert streams.stop_all("the test is over", PATIENCE_S)


@pytest.mark.parametrize("name", ["a", "door", "Door-2_b", "-", "9" * 64])
def test_good_names_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "front door", "tür", "a\n", "@a", "a.b", "a/b", "٣"]
)
def test_bad_names_are_refused(name: str) -> None:
    """In one sentence that says what a name may be."""
    with pytest.raises(StreamRefusedError, match="1 to 64 letters, digits, - and _") as refusal:
        make().open(name, scripted(1))
    assert "\n" not in str(refusal.value)


def test_refusal_of_an_address_for_a_name_does_not_repeat_it() -> None:
    """Someone who forgot the name may have written a password in its place."""
    with pytest.raises(StreamRefusedError) as refusal:
        check_name("rtsp://admin:hunter2")
    assert "hunter2" not in str(refusal.value)


def test_name_is_taken_once() -> None:
    """A second stream of the same name is refused, and the first stays."""
    streams = make()
    first = streams.open("door", scripted(1))
    with pytest.raises(StreamRefusedError, match="there is a stream named 'door' already"):
        streams.open("door", scripted(1))
    assert streams.get("door") is first and streams.names == ["door"]


def test_one_stream_too_many_is_told_how_many_there_may_be() -> None:
    """The engine's capacity is in the sentence; a refused source is still open."""
    streams, source = make(2), scripted(1)
    streams.open("a", scripted(1))
    streams.open("b", scripted(1))
    with pytest.raises(StreamRefusedError, match=r"'c' is one stream too many.* holds 2 streams"):
        streams.open("c", source)
    assert streams.names == ["a", "b"] and not source.closed.is_set()


def test_unknown_name_is_told_the_known_ones() -> None:
    """A sentence, not a bare key; of very many streams some are named."""
    streams = make()
    with pytest.raises(UnknownStreamError, match=r"^there is no stream 'x'; none is open$"):
        streams.get("x")
    streams.open("door", scripted(1))
    streams.open("yard", scripted(1))
    for look in (streams.get, streams.snapshot, streams.start):
        with pytest.raises(
            UnknownStreamError, match=r"^there is no stream 'x'; known: door, yard$"
        ):
            look("x")
    assert str(UnknownStreamError("x", [f"s{n}" for n in range(20)])).endswith("s7 and 12 more")


def test_streams_are_watched_and_answered_independently(streams: StreamRegistry) -> None:
    """Each sees its own frames, and a question of one is none of the other's."""
    for name, count in (("door", 4), ("yard", 7)):
        streams.open(name, scripted(count), FAST)
    heard = Events()
    streams.subscribe(heard)
    ids = {name: streams.get(name).ask("?", at_s=0.1, sampling=SHORT) for name in streams.names}
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    assert [o.report.processed for o in streams.overview()] == [4, 7]
    for name, count in (("door", 4), ("yard", 7)):
        done = [e for e in heard.of(FrameDone) if e.stream == name]
        assert [e.seq for e in done] == list(range(count))
    assert ids["door"] == ids["yard"]


def test_overview_tells_what_each_is_doing(streams: StreamRegistry) -> None:
    """Before the start there is no state, and the config's own name does not count."""
    streams.open("door", scripted(2), StreamConfig(name="other", fps=None))
    (before,) = streams.overview()
    assert (before.name, before.info.name, before.state) == ("door", "scripted", None)
    streams.get("door").ask("?", at_s=99.0)
    assert streams.overview()[0].open_questions == 1
    streams.start("door")
    streams.start("door")
    assert streams.wait_all(PATIENCE_S)
    (after,) = streams.overview()
    assert after.state is not None and after.state.condition is SourceCondition.ENDED
    assert (after.state.stream, after.report.processed, after.open_questions) == ("door", 2, 0)


def test_one_that_fails_leaves_the_others_alone(streams: StreamRegistry) -> None:
    """It is named among the failed; the other goes on to its end and can still be asked."""
    streams.open("bad", ScriptedSource([video_frame(0), SourceError("It broke.")]), FAST)
    streams.open("good", scripted(9), FAST)
    assert streams.failed == []
    heard = Events()
    streams.subscribe(heard)
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    assert streams.failed == ["bad"]
    assert [o.report.processed for o in streams.overview()] == [1, 9]
    number = streams.get("good").ask("?", sampling=SHORT)
    assert heard.wait_for(lambda: number in heard.ends())
    assert heard.ends()[number].num_frames == 9


def test_stop_ends_all_and_says_why(streams: StreamRegistry) -> None:
    """Also those that were never started; every open question is cancelled with the reason."""
    heard = Events()
    streams.subscribe(heard)
    for name in ("a", "b", "c"):
        streams.open(name, scripted(1, holds=True), FAST)
        streams.get(name).ask("?", at_s=99.0)
    streams.start("a")
    streams.start("b")
    assert heard.wait_for(lambda: len(heard.of(FrameDone)) == 2)
    assert not streams.wait_all(0.0)
    assert streams.stop_all("closing time", PATIENCE_S)
    ended = {e.stream for e in heard.of(SourceState) if e.condition is SourceCondition.ENDED}
    assert ended == {"a", "b", "c"}


def test_wait_for_all_shares_one_time() -> None:
    """Streams that do not end take no longer together than the time that was given."""
    clock, engine = FakeClock(), Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=3))
    streams = StreamRegistry(engine, 3, clock)
    given: list[float | None] = []

    def wait(timeout_s: float | None) -> bool:
        given.append(timeout_s)
        clock.advance(4.0)
        return False

    for name in ("a", "b", "c"):
        streams.open(name, scripted(1)).wait = wait  # type: ignore[assignment, method-assign]
    assert not streams.wait_all(6.0)
    assert given == [6.0, 2.0, 0.0]


def test_closed_stream_frees_name_and_place(streams: StreamRegistry) -> None:
    """What it was asked is cancelled, and another stream can be called so."""
    heard = Events()
    streams.subscribe(heard)
    for name in ("a", "b", "c"):
        streams.open(name, scripted(1, holds=True), FAST)
    streams.start_all()
    assert heard.wait_for(lambda: len(heard.of(FrameDone)) == 3)
    number = streams.get("b").ask("?", at_s=99.0)
    assert streams.close("b", "no longer wanted", PATIENCE_S)
    assert heard.ends()[number].status is AnswerStatus.CANCELLED
    assert heard.ends()[number].reason == "no longer wanted"
    with pytest.raises(UnknownStreamError):
        streams.get("b")
    streams.open("b", scripted(2), FAST)
    assert streams.names == ["a", "c", "b"] and streams.snapshot("b") is None


def test_start_that_the_engine_refuses_can_be_tried_again() -> None:
    """As long as another stream holds the engine's only place."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=1))
    one, two = StreamRegistry(engine, 1), StreamRegistry(engine, 1)
    with running(engine):
        one.open("a", scripted(1, holds=True), FAST)
        one.start("a")
        two.open("b", scripted(1), FAST)
        with pytest.raises(ValueError, match="slots are taken"):
            two.start("b")
        heard = Events()
        one.subscribe(heard)
        number = one.get("a").ask("?", at_s=99.0)
        assert one.stop_all("make room", PATIENCE_S)
        assert heard.ends()[number].reason == "make room"
        _until_started(two)
        assert two.wait_all(PATIENCE_S)


def _until_started(streams: StreamRegistry) -> None:
    """The engine lets go of a place between two of its steps."""
    pause = threading.Event()
    for _ in range(1000):
        try:
            return streams.start_all()
        except ValueError:
            pause.wait(PATIENCE_S / 1000)
    raise AssertionError("the place was never free")


def test_subscriber_hears_later_streams_until_it_leaves(streams: StreamRegistry) -> None:
    """One call is for all streams, whenever they are opened."""
    heard, left = Events(), Events()
    streams.subscribe(heard)
    leave = streams.subscribe(left)
    streams.open("early", scripted(1), FAST)
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    leave()
    leave()
    streams.open("late", scripted(1), FAST)
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    assert {e.stream for e in heard} == {"early", "late"}
    assert {e.stream for e in left} == {"early"}


def test_subscriber_that_raises_is_not_called_again(
    streams: StreamRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the streams nor the other listeners notice."""
    calls: list[object] = []

    def fail(event: object) -> None:
        calls.append(event)
        raise RuntimeError("a listener's fault")

    heard = Events()
    streams.subscribe(fail)
    streams.subscribe(heard)
    streams.open("a", scripted(3), FAST)
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    assert len(calls) == 1 and len(heard.of(FrameDone)) == 3
    assert "not called again" in caplog.text

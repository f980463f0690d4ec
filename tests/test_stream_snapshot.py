"""The newest picture of a stream, as a registry has it."""

from collections.abc import Iterator

import pytest

from sources.frame import VideoFrame
from stream.engine import Engine, EngineConfig
from stream.events import DropReason, FrameAdmitted, FrameDropped
from stream.registry import StreamRegistry
from stream.session import StreamConfig
from tests.stream_helpers import (
    FRAME_TOKENS,
    PATIENCE_S,
    Events,
    ScriptedSource,
    loaded,
    running,
    video_frame,
)

FAST = StreamConfig(fps=None)


@pytest.fixture
def streams() -> Iterator[StreamRegistry]:
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    with running(engine):
        yield StreamRegistry(engine, 1)


def test_snapshot_is_the_newest_admitted_frame(streams: StreamRegistry) -> None:
    """At every admission it is that frame, with its own picture and no copy of it."""
    frames = [video_frame(seq) for seq in range(6)]
    streams.open("a", ScriptedSource(frames), FAST)
    assert streams.snapshot("a") is None
    seen: list[VideoFrame | None] = []

    def look(event: object) -> None:
        if isinstance(event, FrameAdmitted):
            seen.append(streams.snapshot("a"))

    streams.subscribe(look)
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    assert len(seen) == 6 and all(a is b for a, b in zip(seen, frames, strict=True))
    assert streams.snapshot("a") is frames[-1]


def test_snapshot_is_never_a_frame_without_a_place(streams: StreamRegistry) -> None:
    """Of a camera that is faster than the target rate, what is dropped is not shown."""
    frames = [video_frame(seq, pts_s=seq / 100, arrived_s=seq / 100) for seq in range(6)]
    streams.open("a", ScriptedSource(frames, live=True), StreamConfig(fps=25.0))
    heard = Events()
    streams.subscribe(heard)
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    paced = [e.seq for e in heard.of(FrameDropped) if e.reason is DropReason.PACED]
    newest = streams.snapshot("a")
    assert newest is not None and newest.seq == heard.of(FrameAdmitted)[-1].seq
    assert 5 in paced and newest.seq < 5

"""Pictures that are pushed: the newest are read, and every one ends as a frame or as a loss."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from sources.errors import PictureError, SourceError
from sources.frame import SourceItem, VideoFrame
from sources.pushed import CAPACITY, PushedSource
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus
from tests.stream_helpers import PATIENCE_S, FakeClock


def jpeg(level: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (level, level, level)).save(out, "JPEG")
    return out.getvalue()


def level(frame: VideoFrame) -> int:
    return round(float(np.mean(frame.image)))


def rest(source: PushedSource) -> list[SourceItem]:
    """All there is to read of a source that is finished."""
    items = []
    while (item := source.read()) is not None:
        items.append(item)
    return items


def conditions(items: list[SourceItem]) -> list[SourceCondition]:
    return [item.condition for item in items if isinstance(item, SourceStatus)]


def test_pictures_become_frames_in_order() -> None:
    clock = FakeClock(50.0)
    source = PushedSource("browser", clock=clock)
    assert source.info.live and source.info.width is None
    frames = []
    waiting = source.read()
    assert isinstance(waiting, SourceStatus)
    assert waiting.condition is SourceCondition.CONNECTING
    for number in range(3):
        source.push(jpeg(10 + number))
        clock.advance(0.04)
        while not isinstance(item := source.read(), VideoFrame):
            assert item == SourceStatus(SourceCondition.LIVE, "browser: pictures come")
        frames.append(item)
    assert [level(frame) for frame in frames] == [10, 11, 12]
    assert [frame.seq for frame in frames] == [0, 1, 2]
    assert [frame.pts_s for frame in frames] == pytest.approx([0.0, 0.04, 0.08])
    assert frames[0].arrived_s == 50.0
    assert (source.info.width, source.info.height) == (64, 48)
    source.finish()
    assert rest(source) == [SourceStatus(SourceCondition.ENDED, "browser has ended")]
    assert source.read() is None


def test_the_newest_replace_what_nobody_took_and_all_are_counted() -> None:
    source = PushedSource("browser")
    for number in range(7):
        source.push(jpeg(100 + number))
    source.finish()
    items = rest(source)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    lost = [item for item in items if isinstance(item, FramesLost)]
    assert [level(frame) for frame in frames] == [105, 106]
    assert lost == [FramesLost(1, LossReason.OVERRUN)] * (7 - CAPACITY)
    assert [frame.seq for frame in frames] == [5, 6]
    assert conditions(items) == [
        SourceCondition.CONNECTING,
        SourceCondition.LIVE,
        SourceCondition.ENDED,
    ]


def test_a_bad_header_is_refused_at_once_and_a_bad_body_is_a_loss() -> None:
    """Who pushes is told what can be told at once; what shows up later is counted."""
    source = PushedSource("browser")
    for data in (b"", b"no picture", jpeg(1)[:20]):
        with pytest.raises(PictureError):
            source.push(data)
    whole = jpeg(50)
    source.push(whole[:-20])
    source.push(whole)
    source.finish()
    items = rest(source)
    assert FramesLost(1, LossReason.CORRUPT) in items
    assert [item.seq for item in items if isinstance(item, VideoFrame)] == [1]


def test_too_large_pictures_are_refused() -> None:
    source = PushedSource("browser", max_pixels=64 * 48 - 1)
    with pytest.raises(PictureError, match="pixels"):
        source.push(jpeg(1))


def test_silence_is_a_stall_and_is_over_when_pictures_come_again() -> None:
    clock = FakeClock()
    source = PushedSource("browser", stall_s=2.0, clock=clock)
    source.push(jpeg(1))
    assert conditions([source.read(), source.read()]) == [  # type: ignore[list-item]
        SourceCondition.CONNECTING,
        SourceCondition.LIVE,
    ]
    assert isinstance(source.read(), VideoFrame)
    clock.advance(2.0)
    stalled = source.read()
    assert stalled == SourceStatus(SourceCondition.STALLED, "browser: no picture for 2 s")
    clock.advance(1.5)
    source.push(jpeg(2))
    live = source.read()
    assert isinstance(live, SourceStatus)
    assert (live.condition, live.gap_s) == (SourceCondition.LIVE, 3.5)
    assert isinstance(source.read(), VideoFrame)


def test_a_blocked_read_wakes_for_a_picture_and_for_close() -> None:
    source = PushedSource("browser")
    source.read()
    read: list[SourceItem | None] = []
    woken = threading.Event()

    def run() -> None:
        while True:
            read.append(item := source.read())
            woken.set()
            if item is None:
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    source.push(jpeg(1))
    assert woken.wait(PATIENCE_S)
    source.close()
    source.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and read[-1] is None


def test_nothing_is_taken_after_the_end() -> None:
    for end in (PushedSource.finish, PushedSource.close):
        source = PushedSource("browser")
        end(source)
        with pytest.raises(SourceError, match="has ended"):
            source.push(jpeg(1))


def test_pictures_that_come_again_begin_a_new_epoch() -> None:
    """So that a stream can begin anew then, as after the loss of a camera."""
    clock = FakeClock()
    source = PushedSource("robot", clock=clock)
    epochs = []
    for number in range(3):
        source.push(jpeg(10 + number))
        while not isinstance(item := source.read(), VideoFrame):
            assert item is not None
        epochs.append(item.epoch)
        clock.advance(3600.0)
        stalled = source.read()
        assert isinstance(stalled, SourceStatus) and stalled.epoch == item.epoch
    assert epochs == [0, 1, 2]

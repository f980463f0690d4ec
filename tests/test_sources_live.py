"""The life of a live source, told by a feed of our own making and a clock that obeys."""

import errno
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sources.feed import FeedClosed, FeedEvent, FeedOpened
from sources.frame import SourceItem, VideoFrame
from sources.live import LiveSource, Patience
from sources.ring import RingFrame
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus

OPENED = FeedOpened(64, 48, 25.0, "64x48 at 25 fps, h264")
PICTURE = "a picture"
Script = list[FeedEvent | float | str]


class World:
    """A clock, and the feeds that are started one after the other.

    A script is what a feed brings: events and pictures at once, numbers as seconds in which nothing
    comes.
    """

    def __init__(self, *scripts: Script, left: list[FramesLost] | None = None) -> None:
        self.now_s = 0.0
        self.scripts: Iterator[Script] = iter(scripts)
        self.feeds: list[FakeFeed] = []
        self.waits: list[float] = []
        self.left = left or []

    def start(self, capture: dict[str, Any]) -> "FakeFeed":
        feed = FakeFeed(self, list(next(self.scripts, [1e9])))
        self.feeds.append(feed)
        return feed

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now_s += seconds
        return False

    def source(self, **patience: float) -> LiveSource:
        return LiveSource(
            "cam",
            {"kind": "camera", "device": 0},
            clock=lambda: self.now_s,
            patience=Patience(**patience),
            start=self.start,
            wait=lambda seconds: self.wait(seconds),
            rng=random.Random(1),
        )


class FakeFeed:
    def __init__(self, world: World, script: Script) -> None:
        self.world, self.script = world, script
        self.closed = 0

    def next(self, timeout_s: float) -> FeedEvent | None:
        assert timeout_s >= -1e-9
        if not self.script:
            return FeedClosed("lost")
        first = self.script[0]
        if first == PICTURE:
            del self.script[0]
            return RingFrame(np.zeros((48, 64, 3), np.uint8), 0, self.world.now_s, 0.001)
        if not isinstance(first, float):
            del self.script[0]
            return first
        step = min(first, timeout_s)
        self.world.now_s += step
        self.script[0] = first - step
        if self.script[0] <= 0.0:
            del self.script[0]
        return None

    def cancel(self) -> None:
        self.script = [FeedClosed("lost")]

    def close(self) -> list[FramesLost]:
        self.closed += 1
        return self.world.left


def frames(count: int, period_s: float = 0.04) -> Script:
    """Pictures at an even rate."""
    return [period_s, PICTURE] * count


def take(source: LiveSource, until: Callable[[SourceItem], bool]) -> list[SourceItem]:
    items: list[SourceItem] = []
    while (item := source.read()) is not None:
        items.append(item)
        if until(item):
            break
    return items


def conditions(items: list[SourceItem]) -> list[SourceCondition]:
    return [item.condition for item in items if isinstance(item, SourceStatus)]


def test_a_source_that_works_connects_and_is_live() -> None:
    world = World([0.5, OPENED, *frames(3), 1e9])
    source = world.source()
    items = take(source, lambda item: isinstance(item, VideoFrame) and item.seq == 2)
    assert conditions(items) == [SourceCondition.CONNECTING, SourceCondition.LIVE]
    seen = [item for item in items if isinstance(item, VideoFrame)]
    assert [f.seq for f in seen] == [0, 1, 2] and {f.epoch for f in seen} == {0}
    assert [f.pts_s for f in seen] == pytest.approx([0.0, 0.04, 0.08])
    assert (source.info.width, source.info.height, source.info.fps) == (64, 48, 25.0)
    assert "h264" in items[1].detail  # type: ignore[union-attr]


def test_silence_is_a_stall_then_a_loss_and_then_the_source_is_found_again() -> None:
    """Detected after 2 s, given up 1 s later; the frames after it are of a new epoch."""
    world = World([OPENED, *frames(5), 1e9], [0.3, OPENED, *frames(5), 1e9])
    items = take(world.source(), lambda item: isinstance(item, VideoFrame) and item.epoch == 1)
    assert conditions(items) == [
        SourceCondition.CONNECTING,
        SourceCondition.LIVE,
        SourceCondition.STALLED,
        SourceCondition.RECONNECTING,
        SourceCondition.LIVE,
    ]
    last = items[-1]
    assert isinstance(last, VideoFrame) and last.seq == 5
    live = items[-2]
    assert isinstance(live, SourceStatus) and live.epoch == 1
    assert live.gap_s == pytest.approx(3.0 + world.waits[0] + 0.34, abs=1e-3)
    assert last.pts_s == pytest.approx(0.16 + live.gap_s, abs=1e-3)
    assert [feed.closed for feed in world.feeds] == [1, 0]


def test_a_short_silence_is_only_a_stall() -> None:
    """Pictures that come again within the grace need no new connection."""
    world = World([OPENED, *frames(3), 2.6, *frames(3), 1e9])
    items = take(world.source(), lambda item: isinstance(item, VideoFrame) and item.seq == 5)
    assert conditions(items) == [
        SourceCondition.CONNECTING,
        SourceCondition.LIVE,
        SourceCondition.STALLED,
        SourceCondition.LIVE,
    ]
    assert items[-1].epoch == 0 and len(world.feeds) == 1  # type: ignore[union-attr]


def test_a_slow_camera_is_not_called_stalled_between_its_pictures() -> None:
    """At one picture in two seconds the patience is five periods."""
    slow = FeedOpened(64, 48, 0.5, "")
    world = World([slow, *frames(6, period_s=2.2), 1e9])
    items = take(world.source(), lambda item: isinstance(item, VideoFrame) and item.seq == 5)
    assert SourceCondition.STALLED not in conditions(items)


def test_a_camera_of_unknown_rate_is_learned_to_be_slow() -> None:
    """MJPEG tells no rate: a picture every four seconds is lost once, and then is what is usual."""
    opened = FeedOpened(64, 48, None, "64x48, mjpeg")
    slow = [opened, PICTURE, *frames(4, 4.0), 1e9]
    world = World([opened, PICTURE, 1e9], slow)
    items = take(world.source(), lambda item: isinstance(item, VideoFrame) and item.seq == 5)
    C = SourceCondition
    assert conditions(items) == [C.CONNECTING, C.LIVE, C.STALLED, C.RECONNECTING, C.LIVE]
    world = World([opened, PICTURE, *frames(8), 1e9])
    items = take(world.source(), lambda item: conditions([item]) == [C.STALLED])
    assert isinstance(items[-1], SourceStatus) and "no picture for 2.0 s" in items[-1].detail


def test_a_source_that_is_not_there_is_tried_for_ever_with_growing_waits() -> None:
    """Full jitter below a limit that doubles from 0.5 s to 30 s; nothing is ever given up."""
    world = World(*[[0.1, FeedClosed("refused")] for _ in range(40)])
    items = take(world.source(), lambda item: len(world.waits) == 30)
    assert set(conditions(items)) == {SourceCondition.CONNECTING, SourceCondition.RECONNECTING}
    for number, wait_s in enumerate(world.waits):
        assert 0.0 <= wait_s <= min(0.5 * 2**number, 30.0)
    assert max(world.waits) > 20.0 and len(set(world.waits)) == 30
    assert all("refused" in i.detail for i in items[1:] if isinstance(i, SourceStatus))
    assert all(feed.closed == 1 for feed in world.feeds[:30])


def test_a_connection_that_brings_no_picture_is_given_up_within_ten_seconds() -> None:
    """A second is left for ending a process that hangs."""
    world = World([OPENED, 1e9], [1e9])
    items = take(world.source(), lambda item: conditions([item]) == ["reconnecting"])
    assert world.now_s == pytest.approx(9.0)
    assert "no picture came within 9 s" in items[-1].detail  # type: ignore[union-attr]


def test_the_waits_begin_anew_after_ten_seconds_of_pictures_only() -> None:
    short, long = frames(20), frames(300)
    fail: Script = [FeedClosed("refused")]
    world = World(fail, fail, fail, fail, [OPENED, *short], fail, [OPENED, *long], fail, fail)
    take(world.source(), lambda item: len(world.waits) == 8)
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 0.5, 1.0]
    assert all(wait <= limit for wait, limit in zip(world.waits, limits, strict=True))
    assert max(world.waits[4:6]) > 1.0


def test_a_silence_is_no_time_with_pictures() -> None:
    """Seven seconds of pictures and three of waiting for more do not begin the waits anew."""
    fail: Script = [FeedClosed("refused")]
    world = World(fail, fail, fail, fail, fail, fail, [OPENED, *frames(190), 1e9])
    take(world.source(), lambda item: len(world.waits) == 7)
    assert world.waits[6] > 0.5


def test_every_frame_that_is_lost_is_said_to_be() -> None:
    """What the feed reports passes through; what it had left when it was ended is a loss, too."""
    overrun = FramesLost(2, LossReason.OVERRUN)
    corrupt = FramesLost(1, LossReason.CORRUPT)
    left = [FramesLost(2, LossReason.STALE), FramesLost(3, LossReason.RECONNECT)]
    world = World([OPENED, *frames(1), overrun, corrupt, *frames(1)], left=left)
    items = take(world.source(), lambda item: conditions([item]) == ["reconnecting"])
    lost = [item for item in items if isinstance(item, FramesLost)]
    assert lost == [overrun, corrupt, *left]
    numbers = [item.seq for item in items if isinstance(item, VideoFrame)]
    assert numbers == [0, 3]


def test_a_film_that_is_over_ends() -> None:
    world = World([OPENED, *frames(2), FeedClosed("ended")])
    source = world.source()
    items = take(source, lambda item: False)
    assert conditions(items)[-1] == SourceCondition.ENDED
    assert source.read() is None and world.feeds[0].closed == 1


def test_closing_ends_the_feed_once_and_all_reads() -> None:
    world = World([OPENED, *frames(50), 1e9])
    source = world.source()
    take(source, lambda item: isinstance(item, VideoFrame))
    source.close()
    source.close()
    assert source.read() is None and world.feeds[0].closed == 1


def test_a_source_closed_while_it_waits_starts_nothing_more() -> None:
    world = World([FeedClosed("refused")])
    source = world.source()

    def closed_meanwhile(seconds: float) -> bool:
        source.close()
        return True

    world.wait = closed_meanwhile  # type: ignore[method-assign]
    take(source, lambda item: False)
    assert len(world.feeds) == 1 and world.feeds[0].closed == 1


def test_a_source_closed_before_it_is_read_never_starts() -> None:
    world = World()
    source = world.source()
    source.close()
    assert source.read() is None and world.feeds == []


def test_a_try_that_cannot_be_started_is_not_the_last() -> None:
    """Descriptors or memory may be short for a moment, of all moments when a camera is lost."""
    world = World([OPENED, *frames(2)], [OPENED, *frames(2), 1e9])
    start, tries = world.start, 0

    def short(capture: dict[str, Any]) -> FakeFeed:
        nonlocal tries
        tries += 1
        if tries in (2, 3):
            raise OSError(errno.EMFILE, "Too many open files")
        return start(capture)

    world.start = short  # type: ignore[method-assign]
    items = take(world.source(), lambda item: isinstance(item, VideoFrame) and item.epoch == 1)
    assert conditions(items).count(SourceCondition.RECONNECTING) == 3
    assert len(world.waits) == 3 and isinstance(items[-1], VideoFrame)

"""What a capturing process has put into the ring, as it is handed out and accounted for."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sources.feed import Feed, FeedClosed, FeedOpened
from sources.ring import RingFrame
from sources.status import FramesLost, LossReason

OPENED = FeedOpened(64, 48, 25.0, "")


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A feed whose process has nothing to capture and is gone: the tests write its ring."""
    feed = Feed({"kind": "network", "url": "http://127.0.0.1:1/"})
    while not isinstance(feed.next(10.0), FeedClosed):
        pass
    feed._said.append(OPENED)
    assert feed.next(0.0) == OPENED
    yield feed
    feed.close()


def write(feed: Feed, count: int) -> None:
    for _ in range(count):
        feed._ring.write(np.zeros((48, 64, 3), np.uint8), 0.0, 0.0)


def taken(feed: Feed) -> list[int | FramesLost]:
    """The numbers of the frames that can be had at once, and the losses between them."""
    events = iter(lambda: feed.next(0.0), None)
    return [event.seq if isinstance(event, RingFrame) else event for event in events]


def test_frames_come_in_order_and_who_falls_behind_is_given_the_newest(feed: Feed) -> None:
    write(feed, 3)
    assert taken(feed) == [0, 1, 2]
    write(feed, 10)
    assert taken(feed) == [FramesLost(9, LossReason.OVERRUN), 12]


def test_nothing_is_taken_ahead(feed: Feed) -> None:
    """Between two reads newer frames replace those that waited."""
    write(feed, 3)
    first = feed.next(0.0)
    assert isinstance(first, RingFrame) and first.seq == 0
    write(feed, 5)
    assert taken(feed) == [FramesLost(6, LossReason.OVERRUN), 7]


def test_losses_are_told_before_the_frames_after_them(feed: Feed) -> None:
    feed._ring.count_losses(2, 5)
    write(feed, 1)
    assert taken(feed) == [
        FramesLost(2, LossReason.CORRUPT),
        FramesLost(5, LossReason.STALE),
        0,
    ]
    feed._ring.count_losses(1, 0)
    assert taken(feed) == [FramesLost(1, LossReason.CORRUPT)]


def test_what_nobody_was_told_of_is_told_at_the_end() -> None:
    feed = Feed({"kind": "network", "url": "http://127.0.0.1:1/"})
    feed._ring.count_losses(2, 3)
    write(feed, 4)
    assert feed.close() == [
        FramesLost(2, LossReason.CORRUPT),
        FramesLost(3, LossReason.STALE),
        FramesLost(4, LossReason.RECONNECT),
    ]


def test_cancelling_what_was_closed_writes_into_no_other_file(tmp_path: Path) -> None:
    """`close` of a source may come just after its feed ended, whose descriptors are others' now."""
    feed = Feed({"kind": "nothing"})
    feed.close()
    others = [(tmp_path / str(n)).open("wb", buffering=0) for n in range(8)]
    feed.cancel()
    assert [os.fstat(file.fileno()).st_size for file in others] == [0] * 8
    for file in others:
        file.close()

"""The hand-over of frames: bounded, either waiting or overwriting, and never silent about it."""

import threading
from collections.abc import Callable

from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from tests.stream_helpers import PATIENCE_S, video_frame


class Harness:
    """A buffer that keeps what it reports."""

    def __init__(self, capacity: int, policy: FullPolicy) -> None:
        self.dropped: list[int] = []
        self.changes = 0
        self.buffer = FrameBuffer(capacity, policy, self._dropped, self._changed)

    def put(self, seq: int) -> bool:
        return self.buffer.put(ScheduledFrame(video_frame(seq), seq, None))

    def take(self) -> int | None:
        taken = self.buffer.take()
        return None if taken is None else taken.frame.seq

    def _dropped(self, scheduled: ScheduledFrame) -> None:
        self.dropped.append(scheduled.frame.seq)

    def _changed(self) -> None:
        self.changes += 1


def in_thread(act: Callable[[], bool]) -> tuple[threading.Thread, list[bool]]:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(act()), daemon=True)
    thread.start()
    return thread, results


def test_frames_come_out_in_the_order_they_went_in() -> None:
    """Oldest first, and None when there is nothing."""
    harness = Harness(3, FullPolicy.WAIT)
    assert harness.take() is None
    assert all(harness.put(seq) for seq in range(3))
    assert len(harness.buffer) == 3
    assert [harness.take() for _ in range(4)] == [0, 1, 2, None]


def test_full_waiting_buffer_holds_the_putting_thread_until_a_take() -> None:
    """With WAIT a put into a full buffer returns after a frame was taken, and drops none."""
    harness = Harness(1, FullPolicy.WAIT)
    harness.put(0)
    thread, results = in_thread(lambda: harness.put(1))
    thread.join(0.05)
    assert thread.is_alive() and len(harness.buffer) == 1
    assert harness.take() == 0
    thread.join(PATIENCE_S)
    assert results == [True] and harness.take() == 1 and harness.dropped == []


def test_closing_wakes_a_waiting_put() -> None:
    """A put that waits when the buffer is closed returns False, and its frame is not in."""
    harness = Harness(1, FullPolicy.WAIT)
    harness.put(0)
    thread, results = in_thread(lambda: harness.put(1))
    thread.join(0.05)
    harness.buffer.close()
    thread.join(PATIENCE_S)
    assert results == [False]
    assert [harness.take(), harness.take()] == [0, None]


def test_full_overwriting_buffer_drops_and_reports_its_oldest() -> None:
    """With DROP_OLDEST a put never waits; exactly what was overwritten is reported, in order."""
    harness = Harness(2, FullPolicy.DROP_OLDEST)
    assert all(harness.put(seq) for seq in range(5))
    assert harness.dropped == [0, 1, 2]
    assert [harness.take() for _ in range(3)] == [3, 4, None]
    harness.put(5)
    assert harness.dropped == [0, 1, 2]


def test_closed_buffer_takes_no_more_and_ends_when_it_is_empty() -> None:
    """After close a put is False; what was in can be taken, and then the buffer has ended."""
    for policy in FullPolicy:
        harness = Harness(2, policy)
        harness.put(0)
        assert not harness.buffer.ended
        harness.buffer.close()
        assert harness.put(1) is False
        assert not harness.buffer.ended
        assert harness.take() == 0
        assert harness.buffer.ended and harness.dropped == []


def test_closing_again_changes_nothing() -> None:
    """Close is idempotent and an empty closed buffer has ended."""
    harness = Harness(2, FullPolicy.WAIT)
    harness.buffer.close()
    harness.buffer.close()
    assert harness.buffer.ended and harness.take() is None


def test_frames_and_closing_are_announced() -> None:
    """Whoever waits for frames hears of each that came in and of the end."""
    harness = Harness(4, FullPolicy.WAIT)
    harness.put(0)
    harness.put(1)
    assert harness.changes == 2
    harness.buffer.close()
    assert harness.changes == 3
    harness.put(2)
    assert harness.changes == 3


def test_nothing_is_lost_between_threads() -> None:
    """Every frame put by one thread is taken or reported as dropped by another, once."""
    for policy in FullPolicy:
        harness = Harness(2, policy)

        def put_all(harness: Harness = harness) -> bool:
            for seq in range(200):
                harness.put(seq)
            harness.buffer.close()
            return True

        thread, _ = in_thread(put_all)
        taken: list[int] = []
        while not harness.buffer.ended:
            seq = harness.take()
            if seq is not None:
                taken.append(seq)
        thread.join(PATIENCE_S)
        assert taken == sorted(taken)
        assert sorted(taken + harness.dropped) == list(range(200))
        assert policy is not FullPolicy.WAIT or not harness.dropped


def test_full_buffer_that_keeps_its_oldest_drops_and_reports_the_newest() -> None:
    """With DROP_NEWEST a put never waits; what finds no room is reported, and what is in stays."""
    harness = Harness(2, FullPolicy.DROP_NEWEST)
    assert all(harness.put(seq) for seq in range(5))
    assert harness.dropped == [2, 3, 4]
    assert harness.take() == 0
    harness.put(5)
    assert [harness.take() for _ in range(3)] == [1, 5, None]
    assert harness.dropped == [2, 3, 4]

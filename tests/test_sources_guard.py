"""The guard between a reader and whoever closes its source."""

import threading

from sources.errors import SourceOpenError
from sources.frame import VideoFrame
from sources.guard import ReadGuard


def test_close_during_a_read_releases_only_after_it() -> None:
    """What a read uses is freed when the read has come back, and once only."""
    reading, finish = threading.Event(), threading.Event()
    released: list[bool] = []
    results: list[VideoFrame | None] = []
    guard = ReadGuard(lambda: released.append(finish.is_set()))

    def step() -> VideoFrame | None:
        reading.set()
        finish.wait()
        raise SourceOpenError("The stream was lost.")

    reader = threading.Thread(target=lambda: results.append(guard.run(step)))
    reader.start()
    reading.wait()
    guard.close()
    assert released == []
    finish.set()
    reader.join()
    guard.close()
    assert results == [None]
    assert released == [True]


def test_read_after_close_does_not_run() -> None:
    """Once closed, a read returns None without touching the source."""
    guard = ReadGuard(lambda: None)
    guard.close()
    assert guard.run(lambda: 1 / 0) is None  # type: ignore[arg-type, return-value]

"""Sources that are pulled: a reader on one thread, and whoever closes them on another."""

import threading
from collections.abc import Iterator

import pytest

from sources.errors import SourceError, SourceOpenError
from sources.frame import SourceInfo, SourceItem
from sources.guard import PulledSource
from sources.status import FramesLost, LossReason

INFO = SourceInfo("pulled", live=False)
LOST = FramesLost(1, LossReason.CORRUPT)


def test_items_come_in_order_and_then_none_for_good() -> None:
    """The end stays the end; closing after it frees once."""
    released: list[bool] = []
    source = PulledSource(INFO, iter([LOST, LOST]), lambda: released.append(True))
    assert source.info is INFO
    assert [source.read() for _ in range(4)] == [LOST, LOST, None, None]
    assert released == []
    source.close()
    source.close()
    assert released == [True]


def test_error_of_the_items_reaches_the_reader() -> None:
    """It is not turned into an end."""

    def items() -> Iterator[SourceItem]:
        yield LOST
        raise SourceOpenError("The file is gone.")

    source = PulledSource(INFO, items())
    assert source.read() == LOST
    with pytest.raises(SourceError, match="gone"):
        source.read()


def test_close_during_a_read_releases_only_after_it() -> None:
    """What a read uses is freed when the read has come back, and once only; its error is gone."""
    reading, finish = threading.Event(), threading.Event()
    released: list[bool] = []
    results: list[SourceItem | None] = []

    def items() -> Iterator[SourceItem]:
        reading.set()
        finish.wait()
        raise SourceOpenError("The stream was lost.")
        yield

    source = PulledSource(INFO, items(), lambda: released.append(finish.is_set()))
    reader = threading.Thread(target=lambda: results.append(source.read()))
    reader.start()
    reading.wait()
    source.close()
    assert released == []
    finish.set()
    reader.join()
    source.close()
    assert results == [None]
    assert released == [True]


def test_read_after_close_does_not_run() -> None:
    """Once closed, a read returns None without touching the source."""
    source = PulledSource(INFO, (1 / 0 for _ in range(1)))  # type: ignore[misc]
    source.close()
    assert source.read() is None

"""What the sources have in common whose frames are made when they are asked for.

One thread reads such a source while another may close it. Freeing a decoder that is in use crashes
the process, so `close` only raises a flag when a read is under way, and the reader frees the
decoder on its way out.
"""

import threading
from collections.abc import Callable, Iterator

from sources.errors import SourceError
from sources.frame import SourceInfo, SourceItem


class PulledSource:
    """Hands out what `items` gives, one read at a time, and frees what they need exactly once."""

    def __init__(
        self,
        info: SourceInfo,
        items: Iterator[SourceItem],
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Read nothing yet.

        Args:
            items: may raise SourceError.
            release: frees what `items` need; never called while they work.
        """
        self._info = info
        self._items = items
        self._release = release
        self._busy = threading.Lock()
        self._closed = threading.Event()
        self._released = False

    @property
    def info(self) -> SourceInfo:
        """What the source is."""
        return self._info

    def read(self) -> SourceItem | None:
        """Return what comes next; None at the end and once closed. Raises what `items` raise."""
        try:
            with self._busy:
                item = None if self._closed.is_set() else next(self._items, None)
        except SourceError:
            if not self._closed.is_set():
                raise
            item = None
        finally:
            self._release_if_due()
        return None if self._closed.is_set() else item

    def close(self) -> None:
        """Make the read under way, and every later one, return None."""
        self._closed.set()
        self._release_if_due()

    def _release_if_due(self) -> None:
        if self._closed.is_set() and self._busy.acquire(blocking=False):
            try:
                if not self._released:
                    self._released = True
                    self._release()
            finally:
                self._busy.release()

"""Lets one thread read a source while another closes it.

Freeing a decoder that is in use crashes the process, so `close` only raises a flag when a read is
under way, and the reader frees the decoder on its way out.
"""

import threading
from collections.abc import Callable

from sources.errors import SourceError
from sources.frame import VideoFrame


class ReadGuard:
    """Runs reads one at a time, and `release` exactly once, never during a read."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._busy = threading.Lock()
        self._closed = threading.Event()
        self._released = False

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed.is_set()

    def run(self, step: Callable[[], VideoFrame | None]) -> VideoFrame | None:
        """Return what `step` returns or raises; None once closed, whatever `step` did."""
        try:
            with self._busy:
                frame = None if self.closed else step()
        except SourceError:
            if not self.closed:
                raise
            frame = None
        finally:
            self._release_if_due()
        return None if self.closed else frame

    def close(self) -> None:
        """Make the read under way, and every later one, return None."""
        self._closed.set()
        self._release_if_due()

    def _release_if_due(self) -> None:
        if self.closed and self._busy.acquire(blocking=False):
            try:
                if not self._released:
                    self._released = True
                    self._release()
            finally:
                self._busy.release()

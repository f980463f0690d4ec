"""A capturing process from our side: start it, wait for what it brings, and end it, come what may.

Only a process can be ended when a library or a driver hangs in it. It is told what to capture on
its standard input, so no address or password is ever in a command line; it answers with a byte
for each frame in the shared ring and a line of JSON for anything else.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sources.frame import MAX_PIXELS
from sources.ring import SLOTS, FrameRing, RingFrame
from sources.status import FramesLost, LossReason

# How long a process may take to say goodbye to its camera.
_FAREWELL_S = 0.5
_ROOT = Path(__file__).parent.parent
_CANCELLED = b"c"


@dataclass(frozen=True, slots=True)
class FeedOpened:
    """Pictures will come: their size, nominal rate, and what was granted, in words."""

    width: int
    height: int
    fps: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class FeedClosed:
    """Nothing more will come; `code` says why, one of the codes of sources.capture_errors."""

    code: str


FeedEvent = FeedOpened | RingFrame | FramesLost | FeedClosed


class Feed:
    """One run of the capturing process. One thread waits for it; `cancel` is for any thread."""

    def __init__(self, capture: dict[str, Any], max_pixels: int = MAX_PIXELS) -> None:
        """Start capturing.

        Args:
            capture: what sources.capture.open_capture is told.
            max_pixels: the largest picture that is taken.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            fd = FrameRing.allocate(max_pixels)
            theirs.callback(os.close, fd)
            self._pipe, their_pipe = os.pipe()
            ours.callback(os.close, self._pipe)
            theirs.callback(os.close, their_pipe)
            self._cancel_read, cancel_write = os.pipe()
            ours.callback(os.close, self._cancel_read)
            ours.callback(os.close, cancel_write)
            self._cancel_write: int | None = cancel_write
            self._ring = FrameRing(fd, max_pixels)
            ours.callback(self._ring.close)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sources.feed_child", str(fd), str(their_pipe)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(fd, their_pipe),
                cwd=_ROOT,
            )
            ours.pop_all()  # from now on they are `close`'s
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            # Left open: its end tells the process that we are gone.
            line = json.dumps(capture | {"max_pixels": max_pixels}) + "\n"
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        os.set_blocking(self._pipe, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._selector.register(self._cancel_read, selectors.EVENT_READ)
        self._unread = b""
        self._said: deque[FeedOpened | FeedClosed] = deque()
        self._opened = self._closed = self._ended = False
        self._cancelling = threading.Lock()
        self._next_seq = 0
        self._told = {LossReason.CORRUPT: 0, LossReason.STALE: 0}

    def next(self, timeout_s: float) -> FeedEvent | None:
        """Wait for what comes next; None after `timeout_s` or `cancel`, or sooner."""
        event = self._take()
        if event is None and not self._ended:
            ready = self._selector.select(max(timeout_s, 0.0))
            if any(key.fd == self._pipe for key, _ in ready):
                self._receive()
            event = self._take()
        return event

    def cancel(self) -> None:
        """Make `next` return at once, now or when it is called."""
        # After `close` its number may be another's descriptor.
        with self._cancelling:
            if self._cancel_write is not None:
                os.write(self._cancel_write, _CANCELLED)

    def close(self) -> list[FramesLost]:
        """End the process and free everything; what nobody was told of, or nobody took."""
        self._process.terminate()
        try:
            self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        lost = []
        while (more := self._lost()) is not None:
            lost.append(more)
        if (left := self._ring.written - self._next_seq) > 0:
            lost.append(FramesLost(left, LossReason.RECONNECT))
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._selector.close()
        with self._cancelling:
            last, self._cancel_write = self._cancel_write, None
        for fd in (self._pipe, self._cancel_read, last):
            if fd is not None:
                os.close(fd)
        self._ring.close()
        return lost

    def _receive(self) -> None:
        """Read what the process has said since; that it closed is said once, and last."""
        try:
            data = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for said in (_event(line) for line in lines if line):
            self._said.append(said)
            self._closed |= isinstance(said, FeedClosed)
        if not data:
            self._ended = True
            if not self._closed:
                self._said.append(FeedClosed("died"))

    def _take(self) -> FeedEvent | None:
        """What comes next of all that is there: the opening, losses and pictures, the end."""
        if self._said and isinstance(self._said[0], FeedOpened):
            self._opened = True
            return self._said.popleft()
        event: FeedEvent | None = None
        if self._opened:
            event = self._lost() or self._frame()
        return self._said.popleft() if event is None and self._said else event

    def _frame(self) -> RingFrame | FramesLost | None:
        """The next picture of the ring; whoever has fallen behind it is given the newest.

        Nothing is taken ahead: what waits here would grow old unseen.
        """
        seq, waiting = self._next_seq, self._ring.written - self._next_seq
        if waiting <= 0:
            return None
        if waiting >= SLOTS:
            self._next_seq += waiting - 1
            return FramesLost(waiting - 1, LossReason.OVERRUN)
        self._next_seq += 1
        return self._ring.read(seq) or FramesLost(1, LossReason.OVERRUN)

    def _lost(self) -> FramesLost | None:
        """What the process has lost and nobody was told of yet, of one kind."""
        totals = zip((LossReason.CORRUPT, LossReason.STALE), self._ring.losses(), strict=True)
        for reason, total in totals:
            # Not equal: a total may be read while it is being written, and is then too small.
            if (count := total - self._told[reason]) > 0:
                self._told[reason] = total
                return FramesLost(count, reason)
        return None


def _event(line: bytes) -> FeedOpened | FeedClosed:
    said = json.loads(line)
    if "closed" in said:
        return FeedClosed(said["closed"])
    return FeedOpened(said["width"], said["height"], said["fps"], said["detail"])

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
    """Nothing more will come; `code` says why, one of the codes of sources.capture."""

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
        fd = FrameRing.allocate(max_pixels)
        self._pipe, their_pipe = os.pipe()
        self._cancel_read, self._cancel_write = os.pipe()
        try:
            self._ring = FrameRing(fd, max_pixels)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sources.feed_child", str(fd), str(their_pipe)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(fd, their_pipe),
                cwd=_ROOT,
            )
        finally:
            os.close(fd)
            os.close(their_pipe)
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
        self._events: deque[FeedEvent] = deque()
        self._unread = b""
        self._next_seq = 0
        self._losses = (0, 0)
        self._ended = self._said_closed = False

    def next(self, timeout_s: float) -> FeedEvent | None:
        """Wait for what comes next; None after `timeout_s` or `cancel`."""
        if not self._events and not self._ended:
            ready = self._selector.select(max(timeout_s, 0.0))
            if any(key.fd == self._pipe for key, _ in ready):
                self._receive()
        return self._events.popleft() if self._events else None

    def cancel(self) -> None:
        """Make `next` return at once, now or when it is called."""
        with contextlib.suppress(OSError):
            os.write(self._cancel_write, _CANCELLED)

    def close(self) -> int:
        """End the process and free everything; how many frames it had made that nobody took."""
        self._process.terminate()
        try:
            self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        left = self._ring.written - self._next_seq
        left += sum(isinstance(event, RingFrame) for event in self._events)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._selector.close()
        for fd in (self._pipe, self._cancel_read, self._cancel_write):
            os.close(fd)
        self._ring.close()
        return left

    def _receive(self) -> None:
        """Take all that the process has said since."""
        try:
            data = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._ended = True
        *lines, self._unread = (self._unread + data).split(b"\n")
        said = [_event(line) for line in lines if line]
        # Pictures come after the word that they will, and before the word that they won't.
        self._events += [event for event in said if isinstance(event, FeedOpened)]
        self._take_frames()
        closed = [event for event in said if isinstance(event, FeedClosed)]
        if self._ended and not closed and not self._said_closed:
            closed = [FeedClosed("died")]
        self._said_closed |= bool(closed)
        self._events += closed

    def _take_frames(self) -> None:
        """Copy what is in the ring, oldest first; what was overwritten is lost."""
        written = self._ring.written
        overwritten = written - (SLOTS - 1) - self._next_seq
        lost = max(overwritten, 0)
        for seq in range(self._next_seq + lost, written):
            frame = self._ring.read(seq)
            if frame is None:
                lost += 1
            else:
                self._events.append(frame)
        self._next_seq = written
        losses = self._ring.losses()
        corrupt, stale = (now - before for now, before in zip(losses, self._losses, strict=True))
        self._losses = losses
        for count, reason in (
            (lost, LossReason.OVERRUN),
            (corrupt, LossReason.CORRUPT),
            (stale, LossReason.STALE),
        ):
            if count:
                self._events.append(FramesLost(count, reason))


def _event(line: bytes) -> FeedOpened | FeedClosed:
    said = json.loads(line)
    if "closed" in said:
        return FeedClosed(said["closed"])
    return FeedOpened(said["width"], said["height"], said["fps"], said["detail"])

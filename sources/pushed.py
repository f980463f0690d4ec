"""Pictures that someone gives us one by one, such as a browser or a robot: the newest count."""

import threading
import time
from collections import deque
from collections.abc import Callable

from sources.errors import PictureError, SourceError
from sources.frame import MAX_PIXELS, SourceInfo, SourceItem, VideoFrame
from sources.picture import check_picture, decode_picture
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus

CAPACITY = 2
STALL_S = 2.0


class PushedSource:
    """A live source of pictures that come by `push`; one thread reads, any may push or close."""

    def __init__(
        self,
        name: str,
        *,
        fps: float | None = None,
        max_pixels: int = MAX_PIXELS,
        stall_s: float = STALL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; it is live from the first picture.

        Args:
            name: safe to print.
            fps: how many pictures a second are promised, if that is known.
            stall_s: without a picture before it is called stalled.
        """
        self._info = SourceInfo(name, live=True, fps=fps)
        self._max_pixels = max_pixels
        self._stall_s = stall_s
        self._clock = clock
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._said: deque[SourceItem] = deque()
        self._changed = threading.Condition()
        self._seq = self._epoch = 0
        self._first_s: float | None = None
        self._last_s: float | None = None  # when the last picture came
        self._condition = SourceCondition.CONNECTING
        self._finished = self._closed = False
        self._said.append(SourceStatus(self._condition, f"waiting for pictures of {name}"))

    @property
    def info(self) -> SourceInfo:
        """What is known of it so far."""
        return self._info

    def push(self, data: bytes) -> None:
        """Give a JPEG, PNG or WebP picture; if it is not taken soon a newer one replaces it.

        Raises PictureError if its header is not that of a picture that is taken, and SourceError
        after `finish` or `close`.
        """
        check_picture(data, self._max_pixels)
        with self._changed:
            if self._finished or self._closed:
                raise SourceError(f"{self._info.name} has ended; open it anew.")
            now_s = self._clock()
            self._arrived(now_s)
            self._waiting.append((data, now_s))
            if len(self._waiting) > CAPACITY:
                self._waiting.popleft()
                self._lose(LossReason.OVERRUN)
            self._changed.notify_all()

    def finish(self) -> None:
        """No more pictures will come; those that wait are still read."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def read(self) -> SourceItem | None:
        """Block for the next frame, status or loss; None once it has ended or is closed."""
        while (taken := self._take()) is not None:
            if not isinstance(taken, tuple):
                return taken
            if (frame := self._decode(*taken)) is not None:
                return frame
        return None

    def close(self) -> None:
        """End it; a blocked `read` returns None at once."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _take(self) -> SourceItem | tuple[bytes, float] | None:
        """What comes next, a picture still encoded."""
        with self._changed:
            while not self._closed:
                if self._said:
                    return self._said.popleft()
                if self._waiting:
                    return self._waiting.popleft()
                if self._finished:
                    if self._condition is SourceCondition.ENDED:
                        return None
                    return self._turn(SourceCondition.ENDED, f"{self._info.name} has ended")
                if self._condition is not SourceCondition.LIVE or self._last_s is None:
                    self._changed.wait()
                elif (left_s := self._last_s + self._stall_s - self._clock()) > 0:
                    self._changed.wait(left_s)
                else:
                    detail = f"{self._info.name}: no picture for {self._stall_s:g} s"
                    return self._turn(SourceCondition.STALLED, detail)
        return None

    def _arrived(self, now_s: float) -> None:
        """Note that a picture came, and that pictures come again."""
        if self._condition is not SourceCondition.LIVE:
            detail, gap_s = f"{self._info.name}: pictures come", None
            if self._last_s is not None:
                self._epoch += 1
                gap_s = round(now_s - self._last_s, 3)
                detail += f", after {gap_s:.1f} s without one"
            self._said.append(self._turn(SourceCondition.LIVE, detail, gap_s))
        self._last_s = now_s

    def _turn(
        self, condition: SourceCondition, detail: str, gap_s: float | None = None
    ) -> SourceStatus:
        self._condition = condition
        return SourceStatus(condition, detail, self._epoch, gap_s=gap_s)

    def _lose(self, reason: LossReason) -> None:
        """Count a picture that has a number but will not be a frame."""
        self._seq += 1
        self._said.append(FramesLost(1, reason))

    def _decode(self, data: bytes, arrived_s: float) -> VideoFrame | None:
        """The frame of a picture; None, and a loss, if it turns out to be damaged."""
        began_s = self._clock()
        try:
            image = decode_picture(data, self._max_pixels)
        except PictureError:
            with self._changed:
                self._lose(LossReason.CORRUPT)
            return None
        ready_s = self._clock()
        if self._first_s is None:
            self._first_s = arrived_s
            height, width = image.shape[:2]
            self._info = SourceInfo(self._info.name, True, width, height, self._info.fps)
        with self._changed:
            frame = VideoFrame(
                image,
                self._seq,
                arrived_s - self._first_s,
                arrived_s,
                ready_s - began_s,
                epoch=self._epoch,
            )
            self._seq += 1
        return frame

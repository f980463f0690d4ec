"""The thread that reads a source, gives its frames their ticks and hands them over.

A live source sets the pace itself. A file is played by its own clock: each frame is held back
until its tick is due. With no target rate every frame is handed over as soon as it is decoded.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from sources.errors import SourceError
from sources.frame import Image, VideoFrame, VideoSource
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus
from stream.buffer import FrameBuffer, ScheduledFrame, Staged
from stream.events import (
    DropReason,
    Event,
    FrameAdmitted,
    FrameDropped,
    SourceState,
)
from stream.pacing import FramePacer


class FrameReader:
    """Reads one source into one buffer until it ends, fails or is stopped.

    `newest` is the newest frame that got its place in the schedule; any thread may look at it.
    """

    def __init__(
        self,
        stream: str,
        source: VideoSource,
        buffer: FrameBuffer,
        publish: Callable[[Event], None],
        *,
        fps: float | None,
        duration_s: float | None = None,
        reset_on_gap: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        stage: Callable[[Image], Staged | None] = lambda image: None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            fps: the target rate; None to read as fast as the engine takes frames.
            duration_s: end the stream at this time on its own clock.
            reset_on_gap: whether the stream begins anew after a gap; it is only told here.
            wait: sleeps so many seconds; True if the reader was stopped meanwhile.
            stage: makes a picture ready for the engine, on this thread.
        """
        self._stream = stream
        self._source = source
        self._buffer = buffer
        self._publish = publish
        self._pacer = FramePacer(fps) if fps is not None else None
        self._duration_s = duration_s
        self._reset_on_gap = reset_on_gap
        self._clock = clock
        self._stopped, self._over = threading.Event(), threading.Event()
        self._seen = 0.0, 0.0  # the newest frame's time in the stream, and when it was read
        self._wait = wait or self._stopped.wait
        self._stage = stage
        self._start_s: float | None = None
        self._last_tick = -1
        self._overrun = 0  # frames that we did not take in time, and whose ticks are yet to be told
        self._state_since_s: float | None = None
        self._epoch = 0
        self.newest: VideoFrame | None = None

    def run(self) -> None:
        """Read to the end; the thread's body. Every outcome is an event."""
        try:
            if not self._source.info.live:
                detail = f"reading {self._source.info.name}"
                self._state(SourceStatus(SourceCondition.LIVE, detail))
            reason = "stopped" if self._stopped.is_set() else self._read()
            self._end(SourceCondition.ENDED, reason)
        except SourceError as error:
            self._end(SourceCondition.FAILED, str(error))
        except Exception as error:
            # Its text may hold an address with a password.
            self._end(SourceCondition.FAILED, f"reading failed: {type(error).__name__}")
            raise
        finally:
            self._over.set()
            self._source.close()
            self._buffer.close()

    def stop(self) -> None:
        """Ask the thread to end soon; idempotent."""
        self._stopped.set()
        self._source.close()
        self._buffer.close()

    def _read(self) -> str:
        """Hand over frame after frame; why there are no more."""
        self._seen = 0.0, self._clock()
        if self._duration_s is not None and self._source.info.live:
            threading.Thread(target=self._end_in_time, name="duration", daemon=True).start()
        while (item := self._source.read()) is not None:
            if isinstance(item, VideoFrame):
                self._seen = item.pts_s, self._clock()
            if self._left_s() <= 0:
                break
            if isinstance(item, SourceStatus):
                self._epoch = item.epoch
            match item:
                case SourceStatus(condition=SourceCondition.ENDED, detail=detail):
                    return detail
                case SourceStatus():
                    self._state(item)
                case FramesLost(count, LossReason.OVERRUN) if self._pacer is not None:
                    self._overrun += count
                case FramesLost(count, reason):
                    self._lost(count, DropReason(reason))
                case VideoFrame():
                    if not self._hand_over(item):
                        return self._unless_stopped("the stream was closed")
        return self._unless_stopped("the source has ended")

    def _unless_stopped(self, reason: str) -> str:
        if self._stopped.is_set():
            return "stopped"
        return reason if self._left_s() > 0 else f"the {self._duration_s:g} s asked for are over"

    def _left_s(self) -> float:
        """How much is left of the duration, by the stream's clock: it goes on without frames."""
        if self._duration_s is None:
            return math.inf
        pts_s, at_s = self._seen
        since_s = self._clock() - at_s if self._source.info.live else 0.0
        return self._duration_s - pts_s - since_s

    def _end_in_time(self) -> None:
        """End a live source when the duration is over, also while nothing comes of it."""
        while (left_s := self._left_s()) > 0:
            # No longer than a thread may wait; a duration may be without end.
            if self._over.wait(min(left_s, 3600.0)):
                return
        self._source.close()

    def _hand_over(self, frame: VideoFrame) -> bool:
        """Schedule one frame and put it in the buffer; False if the stream is closing."""
        if self._pacer is None:
            tick, due_s = frame.seq, None
        else:
            live = self._source.info.live
            admitted = self._pacer.admit(frame.arrived_s if live else frame.pts_s)
            if admitted is None:
                self._drop(frame, None, DropReason.PACED)
                return True
            if self._start_s is None:
                self._start_s = frame.arrived_s if live else self._clock()
            tick, due_s = admitted, self._start_s + admitted / self._pacer.fps
            if not live:
                early_s = due_s - self._clock()
                if early_s > 0 and self._wait(early_s):
                    self._drop(frame, None, DropReason.CLOSED)
                    return False
                # A file's frame arrives when its moment does, not when it happened to be decoded.
                frame = replace(frame, arrived_s=self._clock())
            self._miss(frame.seq, tick)
        self.newest = frame
        self._publish(FrameAdmitted(self._stream, frame.seq, tick, due_s))
        try:
            staged = self._stage(frame.image)
        except Exception:
            self._drop(frame, tick, DropReason.FAILED)
            raise
        if self._buffer.put(ScheduledFrame(frame, tick, due_s, staged)):
            return True
        self._drop(frame, tick, DropReason.CLOSED)
        return False

    def _miss(self, seq: int, tick: int) -> None:
        """Frames that we did not take in time were due at the ticks before `tick`, if any were."""
        missed = min(tick - self._last_tick - 1, self._overrun)
        for back in range(missed, 0, -1):
            due_s = None
            if self._start_s is not None and self._pacer is not None:
                due_s = self._start_s + (tick - back) / self._pacer.fps
            self._publish(FrameAdmitted(self._stream, seq - back, tick - back, due_s))
            self._publish(
                FrameDropped(self._stream, seq - back, tick - back, None, DropReason.OVERRUN)
            )
        self._lost(self._overrun - missed, DropReason.OVERRUN)
        self._overrun, self._last_tick = 0, tick

    def _end(self, condition: SourceCondition, detail: str) -> None:
        self._lost(self._overrun, DropReason.OVERRUN)
        self._state(SourceStatus(condition, detail, epoch=self._epoch))

    def _lost(self, count: int, reason: DropReason) -> None:
        """Frames that had no place in the schedule."""
        if count:
            self._publish(FrameDropped(self._stream, None, None, None, reason, count))

    def _drop(self, frame: VideoFrame, tick: int | None, reason: DropReason) -> None:
        self._publish(FrameDropped(self._stream, frame.seq, tick, frame.pts_s, reason))

    def _state(self, status: SourceStatus) -> None:
        now_s, since_s = self._clock(), self._state_since_s
        self._state_since_s = now_s
        # What a file is called need not be text that can be sent; JSON would fail for all who hear.
        detail = status.detail.encode(errors="replace").decode()
        if status.epoch and status.gap_s is not None and self._reset_on_gap:
            detail += "; the stream begins anew"
        self._publish(
            SourceState(
                self._stream,
                status.condition,
                detail,
                now_s,
                lasted_s=None if since_s is None else now_s - since_s,
                epoch=status.epoch,
                gap_s=status.gap_s,
                retry_s=status.retry_s,
            )
        )

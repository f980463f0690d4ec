"""The thread that reads a source, gives its frames their ticks and hands them over.

A live source sets the pace itself. A file is played by its own clock: each frame is held back
until its tick is due. With no target rate every frame is handed over as soon as it is decoded.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from sources.errors import SourceError
from sources.frame import VideoFrame, VideoSource
from stream.buffer import FrameBuffer, ScheduledFrame
from stream.events import (
    DropReason,
    Event,
    FrameAdmitted,
    FrameDropped,
    SourceCondition,
    SourceState,
)
from stream.pacing import FramePacer


class FrameReader:
    """Reads one source into one buffer until it ends, fails or is stopped."""

    def __init__(
        self,
        stream: str,
        source: VideoSource,
        buffer: FrameBuffer,
        publish: Callable[[Event], None],
        *,
        fps: float | None,
        duration_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            fps: the target rate; None to read as fast as the engine takes frames.
            duration_s: end the stream at this time on its own clock.
            wait: sleeps so many seconds; True if the reader was stopped meanwhile.
        """
        self._stream = stream
        self._source = source
        self._buffer = buffer
        self._publish = publish
        self._pacer = FramePacer(fps) if fps is not None else None
        self._duration_s = duration_s
        self._clock = clock
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._start_s: float | None = None

    def run(self) -> None:
        """Read to the end; the thread's body. Every outcome is an event."""
        try:
            self._state(SourceCondition.LIVE, f"reading {self._source.info.name}")
            reason = self._read()
            self._state(SourceCondition.ENDED, "stopped" if self._stopped.is_set() else reason)
        except SourceError as error:
            self._state(SourceCondition.FAILED, str(error))
        except Exception as error:
            # Its text may hold an address with a password.
            self._state(SourceCondition.FAILED, f"reading failed: {type(error).__name__}")
            raise
        finally:
            self._source.close()
            self._buffer.close()

    def stop(self) -> None:
        """Ask the thread to end soon; idempotent."""
        self._stopped.set()
        self._source.close()
        self._buffer.close()

    def _read(self) -> str:
        """Hand over frame after frame; why there are no more."""
        while (frame := self._source.read()) is not None:
            if self._duration_s is not None and frame.pts_s >= self._duration_s:
                return f"the {self._duration_s:g} s asked for are over"
            if not self._hand_over(frame):
                return "the stream was closed"
        return "the source has ended"

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
        self._publish(FrameAdmitted(self._stream, frame.seq, tick, due_s))
        if self._buffer.put(ScheduledFrame(frame, tick, due_s)):
            return True
        self._drop(frame, tick, DropReason.CLOSED)
        return False

    def _drop(self, frame: VideoFrame, tick: int | None, reason: DropReason) -> None:
        self._publish(FrameDropped(self._stream, frame.seq, tick, frame.pts_s, reason))

    def _state(self, condition: SourceCondition, detail: str) -> None:
        self._publish(SourceState(self._stream, condition, detail, self._clock()))

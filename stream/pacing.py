"""The schedule: which frame belongs to which tick of the target rate.

Tick k is due k / fps after the first frame. A frame belongs to the tick nearest to its own time
(its pts in a file, its arrival from a camera), so ordinary jitter neither drops nor starves. Of
two frames for one tick the first is taken; a tick without a frame is the source's, not ours.
"""

import math


class FramePacer:
    """Gives frames their ticks. Knows no clock: it is told each frame's time."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._first_s: float | None = None
        self._last_tick = -1

    def admit(self, time_s: float) -> int | None:
        """The tick a frame belongs to, or None if that tick already has its frame."""
        if self._first_s is None:
            self._first_s = time_s
        tick = math.floor((time_s - self._first_s) * self.fps + 0.5)
        if tick <= self._last_tick:
            return None
        self._last_tick = tick
        return tick

"""The schedule: which frame belongs to which tick of the target rate.

Tick k is due k / fps after the first frame. A frame takes the next tick if its own time (its pts
in a file, its arrival from a camera) is less than TOLERANCE periods away from it; a frame further
ahead is one too many, one further behind takes the tick nearest to it. As the tolerance is more
than half a period, a camera's frames may fall anywhere between two ticks: ordinary jitter neither
drops nor starves. A tick without a frame is the source's, not ours.
"""

import math

TOLERANCE = 0.75


class FramePacer:
    """Gives frames their ticks. Knows no clock: it is told each frame's time."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._first_s: float | None = None
        self._last_tick = -1

    def admit(self, time_s: float) -> int | None:
        """The tick a frame takes, or None if there is none left for it."""
        if self._first_s is None:
            self._first_s, self._last_tick = time_s, 0
            return 0
        periods = (time_s - self._first_s) * self.fps
        tick = self._last_tick + 1
        if periods - tick <= -TOLERANCE:
            return None
        if periods - tick >= TOLERANCE:
            tick = math.floor(periods + 0.5)
        self._last_tick = tick
        return tick

"""Keeps a stream at its pace: live ones at the present, fetched ones at their own clock.

A live packet that comes later after its time than packets used to is late by that much. Beyond
LAG_S nothing is decoded until a key frame that is not late any more: pictures cannot be skipped
one by one, since each builds on those before it.
"""

import time
from collections.abc import Callable

LAG_S = 0.5
CAUGHT_UP_S = 0.2
# Clocks of cameras drift by less than this many seconds a second.
_DRIFT = 0.001
# A jump of the camera's own clock, not a lag.
_JUMP_S = 10.0


class CatchUp:
    """Says of each packet whether to decode it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._least_s: float | None = None
        self._last_s = 0.0
        self._skipping = False

    def take(self, stamp_s: float | None, is_keyframe: bool) -> bool:
        """Whether to decode a packet with this time on the stream's clock."""
        if stamp_s is None:
            return not self._skipping
        now_s = self._clock()
        behind_s = now_s - stamp_s
        if self._least_s is None or abs(behind_s - self._least_s) > _JUMP_S:
            self._least_s = behind_s
        else:
            # What was the least ever would be out of reach for a camera whose clock runs slow.
            drift_s = _DRIFT * (now_s - self._last_s)
            self._least_s = min(behind_s, self._least_s + drift_s)
        self._last_s = now_s
        lag_s = behind_s - self._least_s
        if lag_s > LAG_S:
            self._skipping = True
        elif self._skipping and is_keyframe and lag_s <= CAUGHT_UP_S:
            self._skipping = False
        return not self._skipping


class Played:
    """Lets pictures that come in lumps out at their own times."""

    def __init__(
        self, clock: Callable[[], float], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._offset_s: float | None = None

    def wait_until_due(self, stamp_s: float | None) -> None:
        """Sleep until a picture with this time is due; after a pause the schedule begins anew."""
        if stamp_s is None:
            return
        now_s = self._clock()
        if self._offset_s is None or abs(early_s := self._offset_s + stamp_s - now_s) > _JUMP_S:
            self._offset_s = now_s - stamp_s
        elif early_s > 0:
            self._sleep(early_s)
        elif early_s < -LAG_S:
            self._offset_s = now_s - stamp_s

"""How much of what a client has asked for is taken in a second."""

import math
import time
from collections.abc import Callable

# More than any camera sends: 64 Mbit/s and 120 pictures a second, with a burst of some seconds.
MAX_BYTES_S, MAX_PACKETS_S, BURST_S = 8 << 20, 120.0, 4.0


class Allowance:
    """So much a second, with a burst; whoever takes more is made to wait."""

    def __init__(
        self,
        per_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_s, self._clock, self._sleep = per_s, clock, sleep
        self._full_s = -math.inf  # when everything that was taken will have been allowed

    def spend(self, count: float) -> None:
        """Sleep for as long as `count` more are ahead of what is allowed."""
        now_s = self._clock()
        self._full_s = max(self._full_s, now_s - BURST_S) + count / self._per_s
        if self._full_s > now_s:
            self._sleep(self._full_s - now_s)

"""So many a second, with a burst: for what one client may do."""


class TokenBucket:
    """Starts full; times are seconds of any one clock."""

    def __init__(self, per_s: float, burst: int, now_s: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_s = float(burst), now_s

    def wait_s(self, now_s: float) -> float:
        """How long until there is a token; 0 if there is one now."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return max((1.0 - self._tokens) / self._per_s, 0.0)

    def take(self) -> None:
        """Take a token, also one that is not there yet: then others wait the longer."""
        self._tokens -= 1.0

"""Quantiles of an endless series in constant memory.

Counts in buckets that grow by one per cent, so a quantile is right to within one per cent however
long the stream runs. An infinite value (a frame that never made it) has a bucket of its own.
"""

import math
from collections import Counter

_GROWTH = math.log(1.01)
_SMALLEST = 1e-6
_INFINITE_BUCKET = 1 << 30


class Quantiles:
    """Add values of at least 0, ask for any quantile of all of them."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, value: float) -> None:
        """Count a value; anything below a millionth counts as that."""
        bucket = _INFINITE_BUCKET
        if math.isfinite(value):
            bucket = math.ceil(math.log(max(value, _SMALLEST) / _SMALLEST) / _GROWTH)
        self._buckets[bucket] += 1
        self.count += 1

    def quantile(self, q: float) -> float | None:
        """The smallest bucket's value that a share `q` of all values does not exceed."""
        if not self.count:
            return None
        wanted, seen = q * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                break
        return math.inf if bucket == _INFINITE_BUCKET else _SMALLEST * math.exp(bucket * _GROWTH)

"""How long answers may work before they would keep the next frame waiting.

Work on the device cannot be interrupted, so none is begun for answers if a frame will come before
its end. Right after a frame there is always some, so answers go on however long they take.
"""

import math

from stream.buffer import ScheduledFrame

# How slowly it is forgotten that work of a kind once took long.
FORGET = 0.95


class Slack:
    """Knows when frames come and how long the work of answers takes. The engine's thread alone."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, float]] = {}  # tick and when it was due
        self._expected_s: dict[str, float] = {}
        self._takes_s: dict[str, float] = {}

    def saw(self, stream: str, scheduled: ScheduledFrame) -> None:
        """A frame is taken: the stream's next one is expected a period after it was ready."""
        before = self._newest.get(stream)
        self.forget(stream)
        if scheduled.due_s is None:
            return
        self._newest[stream] = scheduled.tick, scheduled.due_s
        if before is not None and scheduled.tick > before[0]:
            period_s = (scheduled.due_s - before[1]) / (scheduled.tick - before[0])
            self._expected_s[stream] = scheduled.ready_s + period_s

    def forget(self, stream: str) -> None:
        """Expect nothing of the stream."""
        self._newest.pop(stream, None)
        self._expected_s.pop(stream, None)

    def worked(self, work: str, seconds: float) -> None:
        """A piece of work of this kind took so long."""
        self._takes_s[work] = max(seconds, FORGET * self._takes_s.get(work, 0.0))

    def left_s(self, now_s: float) -> float:
        """How long until the next frame is expected; infinite if none is.

        A frame that is overdue is not waited for: its source may be lost.
        """
        coming = (at_s - now_s for at_s in self._expected_s.values() if at_s > now_s)
        return min(coming, default=math.inf)

    def fits(self, work: str, now_s: float) -> bool:
        """Whether work of this kind will be done before the next frame."""
        return self._takes_s.get(work, 0.0) <= self.left_s(now_s)

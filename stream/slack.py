"""How long answers may work before they would keep the next frame waiting.

A step cannot be interrupted, so an answer's step is not begun if a frame will come before its end.
Right after a frame there is always one, so answers go on at every frame however long they take.
"""

from stream.buffer import ScheduledFrame

# How slowly a step that took long is forgotten, a step.
FORGET = 0.98


class Slack:
    """Knows when frames come and how long the steps of answers take. The engine's thread alone."""

    def __init__(self) -> None:
        self._newest: dict[str, ScheduledFrame] = {}
        self._expected_s: dict[str, float] = {}
        self._step_s = 0.0

    def saw(self, stream: str, scheduled: ScheduledFrame) -> None:
        """A frame is taken: the stream's next one is expected a period after it came."""
        before = self._newest.get(stream)
        self._newest[stream] = scheduled
        self._expected_s.pop(stream, None)
        if before is None or before.due_s is None or scheduled.due_s is None:
            return
        ticks = scheduled.tick - before.tick
        if ticks > 0:
            period_s = (scheduled.due_s - before.due_s) / ticks
            self._expected_s[stream] = scheduled.frame.arrived_s + period_s

    def forget(self, stream: str) -> None:
        """The stream has ended."""
        self._newest.pop(stream, None)
        self._expected_s.pop(stream, None)

    def worked(self, seconds: float) -> None:
        """A step of answers took so long."""
        self._step_s = max(seconds, FORGET * self._step_s)

    def wait_s(self, now_s: float) -> float:
        """How long answers should wait for a frame that will soon be there; 0 if they may go on.

        A frame that is overdue is not waited for: its source may be lost.
        """
        coming = [at_s - now_s for at_s in self._expected_s.values() if at_s > now_s]
        nearest = min(coming, default=self._step_s)
        return nearest if nearest < self._step_s else 0.0

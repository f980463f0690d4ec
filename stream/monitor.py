"""Does the stream keep up? Counted against the schedule, not against what got done.

Every tick at which the source had a frame is due. It ends on time (its frame's state committed at
most two periods after the tick), late, or dropped, which counts as infinitely late: a stall cannot
hide behind an average. Ticks at which the source had nothing are starved, counted apart. All of it
in constant memory.
"""

from collections import Counter, deque
from dataclasses import dataclass
from itertools import takewhile

from stream.events import DropReason, Event, FrameAdmitted, FrameDone, FrameDropped
from stream.quantiles import Quantiles

ON_TIME_PERIODS = 2
WINDOW_S = 10.0
ON_TIME_TARGET = 0.99
WINDOW_TARGET = 0.96
RECENT_S = 1.0
_MOST_RECENT = 4096


@dataclass(slots=True)
class _Window:
    due: int = 0
    on_time: int = 0

    @property
    def on_time_ratio(self) -> float:
        return self.on_time / self.due


@dataclass(frozen=True, slots=True)
class MonitorReport:
    """The count so far. Latencies are in seconds, arrival to state; None if nothing was counted.

    Attributes:
        target_fps: None for a stream without a schedule.
        fps: frames processed a second of the time watched.
        due, on_time, starved: ticks. A tick whose frame is still waiting is not due yet.
        on_time_ratio: on_time / due.
        worst_window: the least on-time ratio of a whole 10 s window; None before there is one.
        dropped: frames by reason.
        latency_p50_s, ...: over due ticks, a dropped frame counting as infinite.
        jitter_s: p95 of how far the time between two commits is from the period.
        stage_s: (p50, p95) by stage.
        recent_fps: frames processed in the last second.
        recent_latency_s: the longest of theirs; None if there are none.
    """

    target_fps: float | None
    fps: float
    read: int
    processed: int
    due: int
    on_time: int
    starved: int
    on_time_ratio: float | None
    worst_window: float | None
    dropped: dict[str, int]
    latency_p50_s: float | None
    latency_p95_s: float | None
    latency_p99_s: float | None
    jitter_s: float | None
    stage_s: dict[str, tuple[float, float]]
    recent_fps: float
    recent_latency_s: float | None

    @property
    def holds(self) -> bool | None:
        """Whether the target rate is held; None for a stream without a schedule or frames."""
        if self.on_time_ratio is None:
            return None
        worst = 1.0 if self.worst_window is None else self.worst_window
        return self.on_time_ratio >= ON_TIME_TARGET and worst >= WINDOW_TARGET


class Monitor:
    """Counts the events of one stream. Not locked: its owner serialises `record` and `report`."""

    def __init__(self, target_fps: float | None) -> None:
        self._fps = target_fps
        self._dropped: Counter[str] = Counter()
        self._admitted = self._unscheduled = 0
        self._processed = self._due = self._on_time = 0
        self._last_tick = -1
        self._first_done_s: float | None = None
        self._last_done_s: float | None = None
        self._latency, self._jitter = Quantiles(), Quantiles()
        self._stages: dict[str, Quantiles] = {}
        self._windows: dict[int, _Window] = {}
        self._worst_closed: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=_MOST_RECENT)

    def record(self, event: Event) -> None:
        """Count an event; those that say nothing of frames are ignored."""
        match event:
            case FrameAdmitted(tick=tick):
                self._admitted += 1
                self._last_tick = max(self._last_tick, tick)
            case FrameDone():
                self._record_done(event)
            case FrameDropped(tick=tick, reason=reason, count=count):
                self._dropped[reason] += count
                self._unscheduled += count if tick is None else 0
                # What was still waiting when the stream was closed never came to be late.
                if tick is not None and self._fps is not None and reason != DropReason.CLOSED:
                    self._latency.add(float("inf"))
                    self._count_tick(tick, on_time=False)

    def report(self, now_s: float | None = None) -> MonitorReport:
        """The count so far; without `now_s`, the last second is that before the last frame."""
        now_s = self._last_done_s or 0.0 if now_s is None else now_s
        newest_first = reversed(self._recent)
        recent = [s for _, s in takewhile(lambda one: one[0] > now_s - RECENT_S, newest_first)]
        watched_s = 0.0
        if self._first_done_s is not None and self._last_done_s is not None:
            watched_s = self._last_done_s - self._first_done_s
        return MonitorReport(
            target_fps=self._fps,
            fps=(self._processed - 1) / watched_s if watched_s > 0 else 0.0,
            read=self._admitted + self._unscheduled,
            processed=self._processed,
            due=self._due,
            on_time=self._on_time,
            starved=self._last_tick + 1 - self._admitted if self._fps is not None else 0,
            on_time_ratio=self._on_time / self._due if self._due else None,
            worst_window=self._worst(),
            dropped=dict(self._dropped),
            latency_p50_s=self._latency.quantile(0.50),
            latency_p95_s=self._latency.quantile(0.95),
            latency_p99_s=self._latency.quantile(0.99),
            jitter_s=self._jitter.quantile(0.95),
            stage_s={
                name: (stage.quantile(0.5) or 0.0, stage.quantile(0.95) or 0.0)
                for name, stage in self._stages.items()
            },
            recent_fps=len(recent) / RECENT_S,
            recent_latency_s=max(recent, default=None),
        )

    def _record_done(self, event: FrameDone) -> None:
        self._processed += 1
        latency_s = event.done_s - event.arrived_s
        self._latency.add(latency_s)
        self._recent.append((event.done_s, latency_s))
        for name, seconds in event.stages_s.items():
            self._stages.setdefault(name, Quantiles()).add(seconds)
        if self._fps is not None and event.due_s is not None:
            if self._last_done_s is not None:
                self._jitter.add(abs(event.done_s - self._last_done_s - 1 / self._fps))
            late_s = event.done_s - event.due_s
            self._count_tick(event.tick, on_time=late_s <= ON_TIME_PERIODS / self._fps)
        if self._first_done_s is None:
            self._first_done_s = event.done_s
        self._last_done_s = event.done_s

    def _count_tick(self, tick: int, *, on_time: bool) -> None:
        assert self._fps is not None
        self._due += 1
        self._on_time += on_time
        number = int(tick / (self._fps * WINDOW_S))
        window = self._windows.setdefault(number, _Window())
        window.due += 1
        window.on_time += on_time
        # A tick of the window before may still be under way, one of two before may not.
        for old in [n for n in self._windows if n < number - 1]:
            ratio = self._windows.pop(old).on_time_ratio
            self._worst_closed = (
                ratio if self._worst_closed is None else min(ratio, self._worst_closed)
            )

    def _worst(self) -> float | None:
        """The least on-time ratio of the windows whose every tick has passed."""
        if self._fps is None:
            return None
        passed = int((self._last_tick + 1) / (self._fps * WINDOW_S))
        ratios = [w.on_time_ratio for number, w in self._windows.items() if number < passed]
        if self._worst_closed is not None:
            ratios.append(self._worst_closed)
        return min(ratios, default=None)

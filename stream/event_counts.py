"""Events become metrics: what is counted, and the listener of a stream that counts it."""

import math
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

from stream.events import (
    AnswerDelta,
    AnswerDone,
    AnswerStatus,
    DropReason,
    Event,
    FrameAdmitted,
    FrameDone,
    FrameDropped,
    SourceState,
)
from stream.monitor import WINDOW_S, WINDOW_TARGET, Monitor

# Seconds, dense around the 40 ms of a frame and the 80 ms of its deadline at 25 FPS.
_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12, 0.2, 0.4, 1.0, 2.0, 5.0)
_SHORT_BUCKETS = (0.001, 0.002, *_BUCKETS)
_LONG_BUCKETS = (*_BUCKETS, 10.0, 30.0, 60.0)
# A live frame may be done before its tick. With a bound below zero the client leaves out the sum,
# which one infinitely late frame would make infinite for ever.
_LATENESS_BUCKETS = (-0.02, 0.0, *_BUCKETS)


class StreamFamilies:
    """What is counted stream by stream."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(name, help_, ["stream", *labels], registry=registry)

        def histogram(name: str, help_: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, help_, ["stream"], buckets=buckets, registry=registry)

        self.frames = counter(
            "ivl_frames", "Frames read, admitted to the schedule, and processed.", "stage"
        )
        self.dropped = counter(
            "ivl_frames_dropped", "Frames that were read and not processed.", "reason"
        )
        self.latency = histogram(
            "ivl_frame_latency_seconds",
            "From a processed frame's arrival to its state committed.",
            _BUCKETS,
        )
        self.lateness = histogram(
            "ivl_frame_lateness_seconds",
            "From a frame's tick to its state committed; +Inf for one that was due and dropped.",
            _LATENESS_BUCKETS,
        )
        self.interval = histogram(
            "ivl_frame_interval_seconds", "Between the commits of two frames.", _BUCKETS
        )
        self.windows = counter(
            "ivl_slo_windows",
            f"Windows of {WINDOW_S:g} s of the schedule, good if at least {WINDOW_TARGET:.0%} of "
            "the frames due were on time; judged when the next window is over.",
            "result",
        )
        self.reconnects = counter("ivl_stream_reconnects", "Times a lost source was found again.")

    def remove(self, stream: str) -> None:
        """Drop all series of a stream."""
        for family in vars(self).values():
            family.remove_by_labels({"stream": stream})


class SharedFamilies:
    """What is counted over all streams together."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, help_: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, help_, buckets=buckets, registry=registry)

        self.stage = Histogram(
            "ivl_frame_stage_seconds",
            "A processed frame's time in each stage.",
            ["stage"],
            buckets=_SHORT_BUCKETS,
            registry=registry,
        )
        queries = Counter(
            "ivl_queries", "Questions that have ended.", ["status"], registry=registry
        )
        self.queries = {status: queries.labels(status) for status in AnswerStatus}
        self.queue = histogram(
            "ivl_query_queue_seconds",
            "From asking to the fork of the stream, for questions that came that far.",
            _LONG_BUCKETS,
        )
        self.first_token = histogram(
            "ivl_time_to_first_token_seconds",
            "From asking to the first token; counted when the answer ends.",
            _LONG_BUCKETS,
        )
        self.inter_token = histogram(
            "ivl_inter_token_seconds",
            "Between two pieces of an answer's text: a token, or those that make one character.",
            _SHORT_BUCKETS,
        )
        self.duration = histogram(
            "ivl_query_duration_seconds",
            "From asking to the end of an answer that was completed or cut.",
            _LONG_BUCKETS,
        )


class StreamCounter:
    """The listener of one stream; its session calls it with one event at a time."""

    def __init__(
        self,
        name: str,
        target_fps: float | None,
        streams: StreamFamilies,
        shared: SharedFamilies,
        clock: Callable[[], float],
    ) -> None:
        self._scheduled = target_fps is not None
        self._shared, self._clock = shared, clock
        # Looked up once: that creates the series at 0, and it is half the cost of counting.
        self._read, self._admitted, self._processed = (
            streams.frames.labels(name, stage) for stage in ("read", "admitted", "processed")
        )
        self._dropped = {reason: streams.dropped.labels(name, reason) for reason in DropReason}
        self._latency = streams.latency.labels(name)
        self._interval = streams.interval.labels(name)
        self._reconnects = streams.reconnects.labels(name)
        if target_fps is not None:
            self._lateness = streams.lateness.labels(name)
            self._windows = _Windows(
                target_fps,
                streams.windows.labels(name, "good"),
                streams.windows.labels(name, "bad"),
            )
        self._stages: dict[str, Histogram] = {}
        self._last_done_s: float | None = None
        self._epoch = 0
        self._last_piece_s: dict[int, float] = {}  # by question, while it is being answered

    def __call__(self, event: Event) -> None:
        match event:
            case FrameDone():
                self._count_done(event)
            case FrameAdmitted():
                self._read.inc()
                self._admitted.inc()
            case FrameDropped():
                self._count_dropped(event)
            case AnswerDelta(question_id=question_id):
                now_s, last_s = self._clock(), self._last_piece_s.get(question_id)
                self._last_piece_s[question_id] = now_s
                if last_s is not None:
                    self._shared.inter_token.observe(now_s - last_s)
            case AnswerDone():
                self._count_answer(event)
            case SourceState(epoch=epoch) if epoch > self._epoch:
                self._reconnects.inc(epoch - self._epoch)
                self._epoch = epoch

    def _count_done(self, event: FrameDone) -> None:
        self._processed.inc()
        self._latency.observe(event.done_s - event.arrived_s)
        if self._last_done_s is not None:
            self._interval.observe(event.done_s - self._last_done_s)
        self._last_done_s = event.done_s
        for stage, seconds in event.stages_s.items():
            if stage not in self._stages:
                self._stages[stage] = self._shared.stage.labels(stage)
            self._stages[stage].observe(seconds)
        if self._scheduled and event.due_s is not None:
            self._lateness.observe(event.done_s - event.due_s)
            self._windows.record(event, event.tick)

    def _count_dropped(self, event: FrameDropped) -> None:
        self._dropped[event.reason].inc(event.count)
        if event.tick is None:
            self._read.inc(event.count)
        # As the monitor has it: what still waited at the close never came to be late.
        elif self._scheduled and event.reason != DropReason.CLOSED:
            self._lateness.observe(math.inf)
            self._windows.record(event, event.tick)

    def _count_answer(self, event: AnswerDone) -> None:
        self._last_piece_s.pop(event.question_id, None)
        self._shared.queries[event.status].inc()
        if event.queue_s is not None:
            self._shared.queue.observe(event.queue_s)
        if event.time_to_first_token_s is not None:
            self._shared.first_token.observe(event.time_to_first_token_s)
        if event.status in (AnswerStatus.COMPLETED, AnswerStatus.INCOMPLETE):
            self._shared.duration.observe(event.total_s)


class _Windows:
    """Every window of a schedule, judged by a monitor of its own."""

    def __init__(self, fps: float, good: Counter, bad: Counter) -> None:
        self._fps, self._good, self._bad = fps, good, bad
        self._monitors: dict[int, Monitor] = {}

    def record(self, event: FrameDone | FrameDropped, tick: int) -> None:
        """Count the end of a tick that was due, and judge the windows that can no longer change."""
        number = int(tick / (self._fps * WINDOW_S))
        if number not in self._monitors:
            self._monitors[number] = Monitor(self._fps)
            # A tick of the window before may still be under way, one of two before may not.
            for old in [n for n in self._monitors if n < number - 1]:
                ratio = self._monitors.pop(old).report().on_time_ratio
                assert ratio is not None, "a window begins with a tick that was due"
                (self._good if ratio >= WINDOW_TARGET else self._bad).inc()
        self._monitors[number].record(event)

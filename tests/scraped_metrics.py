"""A session that does as it is told, and what a scrape of its metrics says."""

from collections.abc import Callable

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from stream.events import (
    AnswerDone,
    AnswerStatus,
    DropReason,
    Event,
    FrameAdmitted,
    FrameDone,
    FrameDropped,
    SourceCondition,
    SourceState,
)
from stream.metrics import BuildInfo, Metrics
from stream.monitor import Monitor, MonitorReport

FPS = 25.0
PERIOD = 1 / FPS
CANARY = "canary-pa55word"
BUILD = BuildInfo("0.1.0", "2.13.0", "nano")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class ScriptedSession:
    """Counts and passes on what it is told to publish, as a session does."""

    def __init__(self, fps: float | None = FPS) -> None:
        self._monitor = Monitor(fps)
        self.listeners: list[Callable[[Event], None]] = []
        self.source_state: SourceState | None = None
        self.open_questions = 0

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def report(self) -> MonitorReport:
        return self._monitor.report()

    def publish(self, event: Event) -> None:
        self._monitor.record(event)
        if isinstance(event, SourceState):
            self.source_state = event
        for listener in self.listeners:
            listener(event)

    def admit(self, tick: int) -> None:
        self.publish(FrameAdmitted("cam", tick, tick, tick * PERIOD))

    def finish(self, tick: int, late_s: float = 0.01, wait_s: float = 0.002) -> None:
        """A frame that arrived 5 ms after its tick and was done `late_s` after the tick."""
        due_s = tick * PERIOD
        stages = {"decode": 0.001, "wait": wait_s}
        done = FrameDone("cam", tick, tick, due_s, due_s, due_s + 0.005, due_s + late_s, stages)
        self.publish(done)

    def drop(self, tick: int | None, reason: DropReason, count: int = 1) -> None:
        self.publish(FrameDropped("cam", None, tick, None, reason, count))

    def state(self, condition: SourceCondition, epoch: int = 0, detail: str = "") -> None:
        self.publish(SourceState("cam", condition, detail, 0.0, epoch=epoch))


def watched(fps: float | None = FPS) -> tuple[Metrics, ScriptedSession]:
    metrics, session = Metrics(BUILD), ScriptedSession(fps)
    metrics.watch("cam", session, lambda: 1024)
    return metrics, session


def answer_done(status: AnswerStatus = AnswerStatus.COMPLETED, **more: float | None) -> AnswerDone:
    times = {"queue_s": 0.015, "time_to_first_token_s": 0.07, "total_s": 0.9} | more
    return AnswerDone(
        stream="cam",
        question_id=1,
        asker=CANARY,
        question=CANARY,
        status=status,
        reason=CANARY,
        answer=CANARY,
        num_frames=1,
        last_seq=0,
        last_pts_s=0.0,
        frame_age_s=0.0,
        num_tokens=3,
        **times,  # type: ignore[arg-type]
    )


def families(metrics: Metrics) -> list[Metric]:
    return list(text_string_to_metric_families(metrics.text().decode()))


def samples(metrics: Metrics) -> Samples:
    found = [sample for family in families(metrics) for sample in family.samples]
    by_name = {(s.name, frozenset(s.labels.items())): s.value for s in found}
    assert len(by_name) == len(found), "a series is there twice"
    return by_name


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of `ivl_` and `name`, of the scripted stream unless another label is given."""
    found = samples(metrics)
    for own in (labels, {"stream": "cam"} | labels):
        if (f"ivl_{name}", frozenset(own.items())) in found:
            return found[f"ivl_{name}", frozenset(own.items())]
    return None


def buckets(metrics: Metrics, name: str, **labels: str) -> dict[float, float]:
    """Cumulative counts by upper bound."""
    by_bound = {}
    for (sample, own), count in samples(metrics).items():
        rest = dict(own)
        bound = rest.pop("le", "")
        if sample == f"ivl_{name}_bucket" and rest == labels:
            by_bound[float(bound)] = count
    return by_bound

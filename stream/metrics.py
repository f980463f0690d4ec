"""Prometheus metrics of the streams that are watched.

`Metrics` owns a registry of its own. A stream's events become counters and histograms on the
thread that publishes them. What its session knows already (the monitor's count of the schedule,
whether the source is live, how many questions are open) is asked of it at every scrape, so it is
counted once. Labels are names of streams, names of stages and members of enums, never an address,
a number or an asker.

Frames add up: read = processed + dropped + those under way, and admitted = read less those that
were dropped before they had a place in the schedule.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sources.status import SourceCondition
from stream.event_counts import SharedFamilies, StreamCounter, StreamFamilies
from stream.events import STREAM_NAME, Event, SourceState
from stream.monitor import ON_TIME_PERIODS, MonitorReport

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class WatchedSession(Protocol):
    """What is asked of a StreamSession; from any thread."""

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]: ...

    def report(self) -> MonitorReport: ...

    @property
    def source_state(self) -> SourceState | None: ...

    @property
    def open_questions(self) -> int: ...


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """What runs: versions of this program and of PyTorch, and the model's name."""

    version: str
    torch: str
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    session: WatchedSession
    state_bytes: Callable[[], float]


class Metrics:
    """Counts every stream it watches; all methods may be called from any thread."""

    def __init__(self, build: BuildInfo, clock: Callable[[], float] = time.monotonic) -> None:
        registry = CollectorRegistry()
        self._registry, self._clock = registry, clock
        self._changed = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._streams, self._shared = StreamFamilies(registry), SharedFamilies(registry)
        self._ws_connections = Gauge(
            "ivl_ws_connections", "WebSocket connections that are open.", registry=registry
        )
        self._slow_closes = Counter(
            "ivl_ws_slow_consumer_closes",
            "WebSocket connections closed because their client did not read.",
            registry=registry,
        )
        info = Info("ivl_build", "What runs; always 1.", registry=registry)
        info.info({"version": build.version, "torch": build.torch, "model": build.model})
        registry.register(_AskedAtScrape(self._snapshot))

    def watch(
        self, name: str, session: WatchedSession, state_bytes: Callable[[], float]
    ) -> Callable[[], None]:
        """Count a stream from now on; returns what ends that and removes the stream's series.

        To be called before the session starts. A name that is watched already is taken over, and
        its series begin again at 0.

        Args:
            state_bytes: the bytes of what the stream remembers; called at every scrape.

        Raises:
            ValueError: the name might be more than a name, such as an address.
        """
        if not STREAM_NAME.fullmatch(name):
            # It is not repeated here: it may hold a password.
            raise ValueError(
                "a stream that is measured needs a name of 1 to 64 letters, digits, _ and -"
            )
        watched = _Watched(session, state_bytes)
        # Sessions are never called under our lock: they hold their own when they call us.
        target_fps = session.report().target_fps
        with self._changed:
            self._streams.remove(name)
            counter = StreamCounter(name, target_fps, self._streams, self._shared, self._clock)
            self._watched[name] = watched
        unsubscribe = session.subscribe(counter)

        def forget() -> None:
            unsubscribe()
            with self._changed:
                if self._watched.get(name) is watched:
                    del self._watched[name]
                    self._streams.remove(name)

        return forget

    def count_connections(self, count: Callable[[], float]) -> None:
        """Have `count` called at every scrape for the number of open WebSocket connections."""
        self._ws_connections.set_function(count)

    def slow_consumer_closed(self) -> None:
        """Count a WebSocket connection that was closed because its client did not read."""
        self._slow_closes.inc()

    def text(self) -> bytes:
        """All series in Prometheus' text format, of type CONTENT_TYPE."""
        return generate_latest(_WithoutCreationTimes(self._registry))

    def _snapshot(self) -> dict[str, _Watched]:
        with self._changed:
            return dict(self._watched)


class _AskedAtScrape(Collector):
    """What the sessions know, asked of them at every scrape."""

    def __init__(self, watched: Callable[[], dict[str, _Watched]]) -> None:
        self._watched = watched

    def collect(self) -> Iterable[Metric]:
        """All families, and the series of every stream that is watched."""
        labels = ["stream"]
        up = GaugeMetricFamily("ivl_stream_up", "Whether the source is live: 1 or 0.", None, labels)
        state_bytes = GaugeMetricFamily(
            "ivl_stream_state_bytes", "Bytes of what the stream remembers.", None, labels
        )
        target_fps = GaugeMetricFamily(
            "ivl_target_fps", "The rate at which frames are due, a second.", None, labels
        )
        due = CounterMetricFamily(
            "ivl_ticks_due", "Ticks whose frame was processed or dropped.", None, labels
        )
        on_time = CounterMetricFamily(
            "ivl_ticks_on_time",
            f"Ticks whose frame was processed at most {ON_TIME_PERIODS} periods later.",
            None,
            labels,
        )
        starved = CounterMetricFamily(
            "ivl_ticks_starved", "Ticks at which the source had no frame.", None, labels
        )
        depth = 0
        for stream, watched in self._watched().items():
            report, state = watched.session.report(), watched.session.source_state
            depth += watched.session.open_questions
            live = state is not None and state.condition is SourceCondition.LIVE
            up.add_metric([stream], float(live))
            state_bytes.add_metric([stream], watched.state_bytes())
            if report.target_fps is not None:
                target_fps.add_metric([stream], report.target_fps)
                due.add_metric([stream], report.due)
                on_time.add_metric([stream], report.on_time)
                starved.add_metric([stream], report.starved)
        queue = GaugeMetricFamily("ivl_query_queue_depth", "Questions accepted, not ended.", depth)
        return [up, state_bytes, target_fps, due, on_time, starved, queue]


class _WithoutCreationTimes(Collector):
    """A registry less the `_created` series, which would double the number of counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """The registry's families."""
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric

"""What a scrape finds: gauges, names and labels, the format, and what the dashboard asks for."""

import json
import math
import re
from pathlib import Path
from threading import Thread

import prometheus_client
import pytest
from prometheus_client.metrics_core import Metric

from stream.engine import Engine, EngineConfig
from stream.events import AnswerDelta, QuestionAccepted, SourceCondition
from stream.metrics import CONTENT_TYPE, Metrics
from tests.scraped_metrics import (
    BUILD,
    CANARY,
    FPS,
    ScriptedSession,
    answer_done,
    families,
    samples,
    value,
    watched,
)
from tests.stream_helpers import PATIENCE_S, loaded, scripted
from tests.watched_session import Watch

DASHBOARD = Path(__file__).parent.parent / "docs" / "grafana.json"


def test_stream_is_up_while_its_source_is_live() -> None:
    """Every change shows at the next scrape; every time a source was found again counts."""
    metrics, session = watched()
    seen = []
    for condition, epoch in [
        (SourceCondition.CONNECTING, 0),
        (SourceCondition.LIVE, 0),
        (SourceCondition.STALLED, 0),
        (SourceCondition.RECONNECTING, 0),
        (SourceCondition.RECONNECTING, 0),
        (SourceCondition.LIVE, 1),
        (SourceCondition.RECONNECTING, 1),
        (SourceCondition.LIVE, 3),
        (SourceCondition.FAILED, 0),
    ]:
        session.state(condition, epoch)
        seen.append((value(metrics, "stream_up"), value(metrics, "stream_reconnects_total")))
    assert [up for up, _ in seen] == [0, 1, 0, 0, 0, 1, 0, 1, 0]
    assert [found for _, found in seen] == [0, 0, 0, 0, 0, 1, 1, 3, 3]


def test_gauges_are_asked_at_every_scrape() -> None:
    """Nothing has to happen on the stream for them to be right."""
    metrics, session = Metrics(BUILD), ScriptedSession()
    other, state = ScriptedSession(), {"bytes": 100.0}
    metrics.watch("cam", session, lambda: state["bytes"])
    metrics.watch("other", other, lambda: 7)
    connections = [object(), object()]
    metrics.count_connections(lambda: len(connections))
    metrics.slow_consumer_closed()
    session.open_questions, other.open_questions = 3, 2
    assert value(metrics, "query_queue_depth") == 5
    assert value(metrics, "stream_state_bytes") == 100
    assert value(metrics, "stream_state_bytes", stream="other") == 7
    assert value(metrics, "target_fps") == FPS
    assert value(metrics, "ws_connections") == 2
    assert value(metrics, "ws_slow_consumer_closes_total") == 1
    connections.clear()
    state["bytes"], session.open_questions = 200.0, 0
    assert value(metrics, "query_queue_depth") == 2
    assert value(metrics, "stream_state_bytes") == 200
    assert value(metrics, "ws_connections") == 0


def test_build_is_told() -> None:
    """One series, always 1, with the versions and the model."""
    metrics = Metrics(BUILD)
    build = {"version": "0.1.0", "torch": "2.13.0", "model": "nano"}
    assert value(metrics, "build_info", **build) == 1


def test_a_stream_that_goes_away_takes_its_series_along() -> None:
    """And only its own; what its frames added to the shared ones stays."""
    metrics, session = Metrics(BUILD), ScriptedSession()
    forget = metrics.watch("cam", session, lambda: 0)
    metrics.watch("other", ScriptedSession(), lambda: 0)
    session.admit(0)
    session.finish(0)
    forget()
    assert not session.listeners
    forget_again = metrics.watch("third", ScriptedSession(), lambda: 0)
    forget_again()
    streams = {labels["stream"] for _, own in samples(metrics) if "stream" in (labels := dict(own))}
    assert streams == {"other"}
    assert value(metrics, "frame_stage_seconds_count", stage="wait") == 1


def test_a_name_that_is_used_again_begins_at_zero_and_outlives_its_first_owner() -> None:
    """The first one's late events and its late end do not touch the second's series."""
    metrics, first, second = Metrics(BUILD), ScriptedSession(), ScriptedSession()
    forget_first = metrics.watch("cam", first, lambda: 0)
    first.admit(0)
    metrics.watch("cam", second, lambda: 0)
    assert value(metrics, "frames_total", stage="admitted") == 0
    second.admit(0)
    first.finish(0)
    forget_first()
    assert value(metrics, "frames_total", stage="admitted") == 1
    assert value(metrics, "frames_total", stage="processed") == 0
    assert value(metrics, "stream_up") == 0


@pytest.mark.parametrize(
    "name",
    [f"rtsp://user:{CANARY}@camera/live", f"user:{CANARY}@camera", "cam 1", "", "a" * 65, "a\nb"],
)
def test_what_may_be_more_than_a_name_is_refused_and_not_repeated(name: str) -> None:
    """An address as a label would show its password to whoever scrapes."""
    metrics = Metrics(BUILD)
    with pytest.raises(ValueError, match="needs a name") as error:
        metrics.watch(name, ScriptedSession(), lambda: 0)
    assert CANARY not in str(error.value) and CANARY not in metrics.text().decode()


def test_nothing_said_on_a_stream_becomes_a_label() -> None:
    """Neither details, askers, questions and answers nor a password in any of them."""
    metrics, session = watched()
    session.state(SourceCondition.RECONNECTING, 1, f"rtsp://user:{CANARY}@camera/live is lost")
    session.publish(QuestionAccepted("cam", 1, CANARY, CANARY))
    session.publish(AnswerDelta("cam", 1, CANARY, 0, CANARY))
    session.publish(answer_done())
    session.admit(0)
    session.finish(0)
    text = metrics.text().decode()
    assert CANARY not in text and "://" not in text
    allowed = {"stream", "stage", "reason", "status", "result", "le", "version", "torch", "model"}
    assert {label for _, own in samples(metrics) for label, _ in own} <= allowed


def test_exposition_keeps_prometheus_conventions() -> None:
    """Help and a type for all, base units, `_total` on counters and only there, whole buckets."""
    metrics, session = watched()
    session.finish(0)
    session.publish(answer_done())
    text = metrics.text().decode()
    assert text.endswith("\n") and "_created" not in text
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert text.count("# HELP") == text.count("# TYPE") == len(families(metrics))
    for family in families(metrics):
        assert re.fullmatch(r"ivl(_[a-z]+)+", family.name), family.name
        assert family.documentation and family.type in ("counter", "gauge", "histogram")
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent|ratio)\b", family.name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name
            check_buckets(family)


def check_buckets(family: Metric) -> None:
    """Each histogram's buckets grow, end at +Inf, and have as many values there as are counted."""
    series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
    counts = {}
    for sample in family.samples:
        rest = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
        if sample.name.endswith("_bucket"):
            series.setdefault(rest, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[rest] = sample.value
    assert series and series.keys() == counts.keys()
    for rest, found in series.items():
        assert found == sorted(found) and [v for _, v in found] == sorted(v for _, v in found)
        assert found[-1] == (math.inf, counts[rest])


def test_each_metrics_has_a_registry_of_its_own() -> None:
    """Two in one process do not meet, and the client's global registry stays as it is."""
    (one, session), (two, _) = watched(), watched()
    session.admit(0)
    assert value(one, "frames_total", stage="admitted") == 1
    assert value(two, "frames_total", stage="admitted") == 0
    assert not any(m.name.startswith("ivl") for m in prometheus_client.REGISTRY.collect())


def test_a_real_session_is_counted_to_the_last_frame_and_answer() -> None:
    """Watched through an engine on its thread, scraped meanwhile: the count is the report's."""
    engine = Engine(loaded(), EngineConfig(frame_tokens=4))
    thread = Thread(target=engine.run, daemon=True)
    thread.start()
    watch = Watch(scripted(40), engine, "cam")
    metrics = Metrics(BUILD)
    metrics.watch("cam", watch.session, lambda: engine.pool.slot_bytes)
    watch.ask()
    watch.session.start()
    while not watch.session.wait(0.01):
        metrics.text()
    watch.finish()
    report = watch.session.report()
    assert value(metrics, "frames_total", stage="processed") == report.processed == 40
    assert value(metrics, "frame_stage_seconds_count", stage="decoder") == 40
    assert value(metrics, "queries_total", status="incomplete") == 1
    assert value(metrics, "time_to_first_token_seconds_count") == 1
    assert value(metrics, "stream_state_bytes") == engine.pool.slot_bytes
    assert value(metrics, "stream_up") == 0
    engine.close()
    thread.join(PATIENCE_S)


def test_dashboard_asks_only_for_series_that_exist() -> None:
    """Every name and label in its queries is in a real exposition."""
    metrics, session = watched()
    session.finish(0)
    known = {name: dict(own).keys() for name, own in samples(metrics)}
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 39
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"]]
    named = [name for query in queries for name in re.findall(r"\bivl_\w+", query)]
    assert len(named) >= len(panels) and set(named) <= known.keys()
    for query in queries:
        for name, matchers in re.findall(r"\b(ivl_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*=", matchers)) <= set(known[name]), query

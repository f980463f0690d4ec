"""Scripted events against exact samples of the exposition, parsed as Prometheus parses it."""

import math
import random

import pytest

from stream.events import (
    AnswerDelta,
    AnswerStatus,
    DropReason,
    FrameAdmitted,
    FrameDone,
)
from stream.metrics import Metrics
from stream.monitor import ON_TIME_TARGET, WINDOW_TARGET
from tests.scraped_metrics import (
    BUILD,
    PERIOD,
    ScriptedSession,
    answer_done,
    buckets,
    samples,
    value,
    watched,
)
from tests.stream_helpers import FakeClock


def test_every_enumerated_series_is_there_at_zero_before_anything_happens() -> None:
    """A rate over a series that appears with its first event would miss that event."""
    metrics, _ = watched()
    for reason in DropReason:
        assert value(metrics, "frames_dropped_total", reason=reason) == 0
    for status in AnswerStatus:
        assert value(metrics, "queries_total", status=status) == 0
    for stage in ("read", "admitted", "processed"):
        assert value(metrics, "frames_total", stage=stage) == 0
    for result in ("good", "bad"):
        assert value(metrics, "slo_windows_total", result=result) == 0
    for name in ("frame_latency", "frame_lateness", "frame_interval"):
        assert value(metrics, f"{name}_seconds_count") == 0
    for name in ("stream_reconnects_total", "ws_slow_consumer_closes_total", "ws_connections"):
        assert value(metrics, name) == 0
    assert value(metrics, "query_queue_depth") == 0
    assert value(metrics, "stream_up") == 0


def test_frames_worked_out_by_hand() -> None:
    """Seven ticks: one early, two on time, one late, one overrun, one starved, one closed."""
    metrics, session = watched()
    for tick in (0, 1, 2, 3, 4, 6):
        session.admit(tick)
    session.finish(0, late_s=-0.001)
    session.finish(1, late_s=0.03)
    session.finish(2, late_s=2 * PERIOD - 1e-6)
    session.finish(3, late_s=1.5)
    session.drop(4, DropReason.OVERRUN)
    session.drop(6, DropReason.CLOSED)
    session.drop(None, DropReason.PACED)
    session.drop(None, DropReason.STALE, count=5)
    frames = {
        stage: value(metrics, "frames_total", stage=stage)
        for stage in ("read", "admitted", "processed")
    }
    assert frames == {"read": 12, "admitted": 6, "processed": 4}
    dropped = {r: value(metrics, "frames_dropped_total", reason=r) for r in DropReason}
    assert {r: n for r, n in dropped.items() if n} == {
        DropReason.OVERRUN: 1,
        DropReason.CLOSED: 1,
        DropReason.PACED: 1,
        DropReason.STALE: 5,
    }
    lateness = buckets(metrics, "frame_lateness_seconds", stream="cam")
    assert [lateness[b] for b in (-0.02, 0.0, 0.03, 0.06, 0.08, 1.0, 5.0, math.inf)] == [
        *(0, 1, 1, 2, 3, 3, 4, 5)
    ]
    assert [value(metrics, f"ticks_{n}_total") for n in ("due", "on_time", "starved")] == [5, 3, 1]


def test_latency_is_from_arrival_and_of_processed_frames_alone() -> None:
    """25 ms and 95 ms after arrival; the frame that was dropped is not among them."""
    metrics, session = watched()
    session.admit(0)
    session.finish(0, late_s=0.0299)
    session.finish(1, late_s=0.0999)
    session.drop(2, DropReason.OVERRUN)
    latency = buckets(metrics, "frame_latency_seconds", stream="cam")
    assert [latency[b] for b in (0.02, 0.03, 0.08, 0.12, math.inf)] == [0, 1, 1, 2, 2]
    assert value(metrics, "frame_latency_seconds_sum") == pytest.approx(0.0249 + 0.0949)


def test_intervals_are_between_commits() -> None:
    """Three frames have two intervals, of 50 ms and 30 ms."""
    metrics, session = watched()
    for tick, late_s in enumerate((0.01, 0.0199, 0.0098)):
        session.finish(tick, late_s)
    interval = buckets(metrics, "frame_interval_seconds", stream="cam")
    assert [interval[b] for b in (0.02, 0.03, 0.04, 0.05, math.inf)] == [0, 1, 1, 2, 2]
    assert value(metrics, "frame_interval_seconds_sum") == pytest.approx(0.0798)


def test_stages_are_counted_over_all_streams_together() -> None:
    """A stage appears with its first frame, and both streams' frames count in it."""
    metrics, session = watched()
    other = ScriptedSession()
    metrics.watch("other", other, lambda: 0)
    session.finish(0, wait_s=0.0015)
    other.finish(0, wait_s=0.0415)
    wait = buckets(metrics, "frame_stage_seconds", stage="wait")
    assert [wait[b] for b in (0.001, 0.002, 0.04, 0.05, math.inf)] == [0, 1, 1, 2, 2]
    assert value(metrics, "frame_stage_seconds_count", stage="decode") == 2


def test_a_stream_without_a_schedule_has_no_lateness_windows_or_ticks() -> None:
    """Nothing is due, so nothing can be late; frames and latencies are counted all the same."""
    metrics, session = watched(fps=None)
    session.publish(FrameAdmitted("cam", 0, 0, None))
    session.publish(FrameDone("cam", 0, 0, 0.0, None, 0.0, 0.05, {}))
    session.publish(FrameAdmitted("cam", 1, 1, None))
    session.drop(1, DropReason.FAILED)
    assert value(metrics, "frames_total", stage="processed") == 1
    assert value(metrics, "frame_latency_seconds_count") == 1
    absent = ("frame_lateness_seconds_count", "ticks_due_total", "target_fps")
    assert [value(metrics, name) for name in absent] == [None, None, None]
    assert value(metrics, "slo_windows_total", result="good") is None


def test_windows_are_judged_when_the_next_one_is_over() -> None:
    """A good window, a bad one with a drop too many, and two that can still change."""
    metrics, session = watched()

    def go(ticks: range, dropped: int = 0) -> None:
        for tick in ticks:
            session.admit(tick)
            if tick - ticks.start < dropped:
                session.drop(tick, DropReason.OVERRUN)
            else:
                session.finish(tick)

    def judged() -> list[float | None]:
        return [value(metrics, "slo_windows_total", result=r) for r in ("good", "bad")]

    go(range(250), dropped=10)
    go(range(250, 500), dropped=11)
    assert judged() == [0, 0]
    go(range(500, 501))
    assert judged() == [1, 0]
    go(range(501, 751))
    assert judged() == [1, 1]


@pytest.mark.parametrize("fps", [25.0, 7.3])
def test_counts_agree_with_the_monitor_on_random_schedules(fps: float) -> None:
    """Frames add up, and ticks and windows are the monitor's own, whatever happens to frames."""
    chance = random.Random(42)
    metrics, session = watched(fps)
    tick = 0
    for seq in range(3000):
        tick += 1 if chance.random() < 0.97 else 7
        session.publish(FrameAdmitted("cam", seq, tick, tick / fps))
        bad = (tick // int(fps * 10)) % 3 == 1
        if chance.random() < (0.06 if bad else 0.01):
            session.drop(tick, chance.choice(list(DropReason)))
        else:
            due_s, late_s = tick / fps, chance.expovariate(2.0 * fps)
            done = FrameDone("cam", seq, tick, 0.0, due_s, due_s, due_s + late_s, {})
            session.publish(done)
        session.drop(None, chance.choice(list(DropReason)), count=chance.randrange(3))
    report = session.report()
    dropped = {r: value(metrics, "frames_dropped_total", reason=r) for r in DropReason}
    assert dropped == {r: report.dropped.get(r, 0) for r in DropReason}
    assert value(metrics, "frames_total", stage="read") == report.read
    assert value(metrics, "frames_total", stage="admitted") == 3000
    assert value(metrics, "frames_total", stage="processed") == report.processed
    assert report.read == report.processed + sum(report.dropped.values())
    assert value(metrics, "frame_lateness_seconds_count") == report.due
    names = ("due", "on_time", "starved")
    assert [value(metrics, f"ticks_{n}_total") for n in names] == [
        *(report.due, report.on_time, report.starved)
    ]
    good, bad_ = (value(metrics, "slo_windows_total", result=r) for r in ("good", "bad"))
    assert good is not None and bad_ is not None and good and bad_
    assert good + bad_ == int(tick / (fps * 10)) - 1
    assert report.worst_window is not None and report.worst_window < WINDOW_TARGET


def test_lateness_at_25_fps_has_the_deadline_as_a_bound() -> None:
    """So that the share of frames on time can be read from the histogram as well."""
    metrics, session = watched()
    for tick in range(500):
        session.admit(tick)
        session.finish(tick, late_s=tick / 500 / 10)
    on_time = value(metrics, "ticks_on_time_total")
    assert buckets(metrics, "frame_lateness_seconds", stream="cam")[0.08] == on_time
    assert on_time is not None and on_time < ON_TIME_TARGET * 500


def test_sum_of_lateness_is_left_out() -> None:
    """One infinite value would make it infinite for ever; the bucket and the count tell."""
    metrics, session = watched()
    session.admit(0)
    session.drop(0, DropReason.OVERRUN)
    assert value(metrics, "frame_lateness_seconds_sum") is None
    assert value(metrics, "frame_lateness_seconds_count") == 1
    assert not any(math.isinf(v) or math.isnan(v) for v in samples(metrics).values())


def test_answers_worked_out_by_hand() -> None:
    """Statuses count all; durations only answers that were given; unstarted ones never queued."""
    metrics, session = watched()
    session.publish(answer_done(total_s=0.3))
    session.publish(answer_done(AnswerStatus.INCOMPLETE, total_s=8.0))
    session.publish(answer_done(AnswerStatus.CANCELLED, total_s=3600.0, queue_s=None))
    unstarted = {"queue_s": None, "time_to_first_token_s": None}
    session.publish(answer_done(AnswerStatus.FAILED, **unstarted))
    assert [value(metrics, "queries_total", status=s) for s in AnswerStatus] == [1, 1, 1, 1]
    assert value(metrics, "query_duration_seconds_count") == 2
    assert value(metrics, "query_duration_seconds_sum") == pytest.approx(8.3)
    assert buckets(metrics, "query_duration_seconds")[10.0] == 2
    assert value(metrics, "query_queue_seconds_count") == 2
    assert buckets(metrics, "query_queue_seconds")[0.02] == 2
    first = buckets(metrics, "time_to_first_token_seconds")
    assert [first[b] for b in (0.06, 0.08, math.inf)] == [0, 3, 3]


def test_time_between_tokens_is_each_answers_own() -> None:
    """Two answers in turn: their gaps are not mixed, and the first piece of each has none."""
    clock, session = FakeClock(), ScriptedSession()
    metrics = Metrics(BUILD, clock)
    metrics.watch("cam", session, lambda: 0)
    for index in range(3):
        for question_id in (1, 2):
            session.publish(AnswerDelta("cam", question_id, "a", index, "x"))
            clock.advance(0.009)
    gaps = buckets(metrics, "inter_token_seconds")
    assert [gaps[b] for b in (0.01, 0.02, math.inf)] == [0, 4, 4]
    session.publish(answer_done())
    session.publish(AnswerDelta("cam", 1, "a", 0, "x"))
    assert value(metrics, "inter_token_seconds_count") == 4

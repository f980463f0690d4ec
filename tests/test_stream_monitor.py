"""The count of due, on-time, late, dropped and starved ticks, checked against schedules by hand."""

import math

import pytest

from stream.events import DropReason, FrameAdmitted, FrameDone, FrameDropped, SourceCondition
from stream.events import SourceState as State
from stream.monitor import Monitor, MonitorReport

FPS = 25.0
PERIOD = 1 / FPS


def admit(monitor: Monitor, tick: int) -> None:
    monitor.record(FrameAdmitted("s", tick, tick, tick * PERIOD))


def finish(monitor: Monitor, tick: int, late_s: float = 0.01) -> None:
    due_s = tick * PERIOD
    stages = {"decode": 0.001, "decoder": late_s}
    monitor.record(FrameDone("s", tick, tick, due_s, due_s, due_s, due_s + late_s, stages))


def drop(monitor: Monitor, tick: int | None, reason: DropReason = DropReason.OVERRUN) -> None:
    monitor.record(FrameDropped("s", 0, tick, 0.0, reason))


def watch(monitor: Monitor, ticks: range, late_s: float = 0.01) -> MonitorReport:
    for tick in ticks:
        admit(monitor, tick)
        finish(monitor, tick, late_s)
    return monitor.report()


def test_schedule_worked_out_by_hand() -> None:
    """Ten ticks: 5 on time, 2 late, 1 overrun, 1 starved, 1 under way; and a frame unscheduled."""
    monitor = Monitor(FPS)
    for tick in (0, 1, 2, 3, 4, 5, 6, 8, 9):
        admit(monitor, tick)
    for tick in (0, 1, 2, 3):
        finish(monitor, tick)
    finish(monitor, 4, late_s=2 * PERIOD - 1e-6)
    finish(monitor, 5, late_s=2 * PERIOD + 1e-6)
    finish(monitor, 6, late_s=1.0)
    drop(monitor, 8)
    drop(monitor, None, DropReason.PACED)
    report = monitor.report()
    assert (report.due, report.on_time, report.starved) == (8, 5, 1)
    assert (report.read, report.processed) == (10, 7)
    assert report.on_time_ratio == 5 / 8
    assert report.dropped == {"overrun": 1, "paced": 1}
    assert report.holds is False


def test_counts_add_up_once_all_frames_have_ended() -> None:
    """Read is processed plus dropped, and due is on time plus late plus dropped with a tick."""
    monitor = Monitor(FPS)
    for tick in range(100):
        admit(monitor, tick)
        if tick % 10 == 3:
            drop(monitor, tick)
        else:
            finish(monitor, tick, late_s=0.2 if tick % 10 == 4 else 0.01)
        drop(monitor, None, DropReason.PACED)
    report = monitor.report()
    assert report.read == report.processed + sum(report.dropped.values()) == 200
    assert (report.due, report.on_time) == (100, 80)


def test_stall_cannot_hide_behind_an_average() -> None:
    """A minute with half a second's stall misses no more than 1 % but fails in its window."""
    monitor = Monitor(FPS)
    for tick in range(25 * 60):
        admit(monitor, tick)
        if 400 <= tick < 413:
            drop(monitor, tick)
        else:
            finish(monitor, tick)
    report = monitor.report()
    assert report.on_time_ratio is not None and report.on_time_ratio > 0.99
    assert report.worst_window == pytest.approx(1 - 13 / 250)
    assert report.holds is False


def test_dropped_frame_is_infinitely_late() -> None:
    """Two drops in a hundred ticks make p99 infinite and leave p95 as it was."""
    monitor = Monitor(FPS)
    watch(monitor, range(98))
    for tick in (98, 99):
        admit(monitor, tick)
        drop(monitor, tick)
    report = monitor.report()
    assert report.latency_p95_s == pytest.approx(0.01, rel=0.01)
    assert report.latency_p99_s == math.inf


def test_last_whole_window_counts_and_the_one_begun_does_not() -> None:
    """Bad ticks show in the worst window as soon as its ten seconds are whole, not before."""
    monitor = Monitor(FPS)
    watch(monitor, range(200))
    for tick in range(200, 249):
        admit(monitor, tick)
        drop(monitor, tick)
    assert monitor.report().worst_window is None
    admit(monitor, 249)
    finish(monitor, 249)
    assert monitor.report().worst_window == pytest.approx(201 / 250)
    watch(monitor, range(250, 750))
    assert monitor.report().worst_window == pytest.approx(201 / 250)


def test_tick_that_ends_in_the_next_window_counts_in_its_own() -> None:
    """A frame that is done after the window's end makes that window, not the next one, worse."""
    monitor = Monitor(FPS)
    watch(monitor, range(249))
    admit(monitor, 249)
    admit(monitor, 250)
    finish(monitor, 250)
    finish(monitor, 249, late_s=1.0)
    watch(monitor, range(251, 500))
    report = monitor.report()
    assert report.worst_window == pytest.approx(249 / 250)


def test_starved_ticks_are_not_due() -> None:
    """A source of 10 frames a second starves ticks, none of which counts against the rate."""
    monitor = Monitor(FPS)
    for k in range(100):
        admit(monitor, int(k * 2.5))
        finish(monitor, int(k * 2.5))
    report = monitor.report()
    assert (report.due, report.on_time) == (100, 100)
    assert report.starved == 248 - 100
    assert report.holds is True


def test_stream_without_a_schedule_counts_frames_alone() -> None:
    """With no target rate there is no due tick, no verdict, no starving, no jitter."""
    monitor = Monitor(None)
    for seq in range(11):
        monitor.record(FrameAdmitted("s", seq, seq, None))
        monitor.record(FrameDone("s", seq, seq, 0.0, None, seq * 0.1, seq * 0.1 + 0.05, {}))
    monitor.record(FrameAdmitted("s", 30, 30, None))
    drop(monitor, 30, DropReason.CLOSED)
    report = monitor.report()
    assert (report.due, report.starved, report.read, report.processed) == (0, 0, 12, 11)
    assert report.fps == pytest.approx(10.0)
    assert report.latency_p99_s == pytest.approx(0.05, rel=0.01)
    assert report.holds is None and report.jitter_s is None and report.worst_window is None


def test_nothing_counted_is_none_not_zero() -> None:
    """Before any frame there is no ratio, latency or verdict."""
    report = Monitor(FPS).report()
    assert (report.on_time_ratio, report.latency_p50_s, report.holds) == (None, None, None)
    assert (report.read, report.starved, report.fps) == (0, 0, 0.0)


def test_rate_jitter_and_stages() -> None:
    """Steady commits a period apart have the target rate, no jitter, and their stages' times."""
    report = watch(Monitor(FPS), range(251), late_s=0.02)
    assert report.fps == pytest.approx(25.0)
    assert report.jitter_s is not None and report.jitter_s < 1e-5
    assert report.stage_s["decoder"] == pytest.approx((0.02, 0.02), rel=0.01)
    assert list(report.stage_s) == ["decode", "decoder"]


def test_uneven_commits_show_as_jitter() -> None:
    """Commits that are early and late by 5 ms in turn are 10 ms from a period apart."""
    monitor = Monitor(FPS)
    for tick in range(100):
        admit(monitor, tick)
        finish(monitor, tick, late_s=0.02 if tick % 2 else 0.01)
    assert monitor.report().jitter_s == pytest.approx(0.01, rel=0.02)


def test_events_of_other_kinds_are_ignored() -> None:
    """What says nothing of frames changes no count."""
    monitor = Monitor(FPS)
    before = monitor.report()
    monitor.record(State("s", SourceCondition.LIVE, "", 0.0))
    assert monitor.report() == before


def test_memory_is_constant_over_a_long_stream() -> None:
    """After 100000 ticks, one in a hundred dropped, the monitor holds no more than after 10000."""
    monitor = Monitor(FPS)

    def size() -> int:
        series = [monitor._latency, monitor._jitter, *monitor._stages.values()]
        return len(monitor._windows) + sum(len(q._buckets) for q in series)

    def go(ticks: range) -> None:
        for tick in ticks:
            admit(monitor, tick)
            if tick % 100 == 99:
                drop(monitor, tick)
            else:
                finish(monitor, tick, late_s=0.01 + tick % 37 / 1000)

    go(range(10_000))
    early = size()
    go(range(10_000, 100_000))
    assert size() <= early + 5 and len(monitor._windows) <= 2
    report = monitor.report()
    assert report.due == 100_000
    assert report.worst_window == pytest.approx(0.988, abs=0.003)


def test_frames_that_waited_when_the_stream_was_closed_are_not_late() -> None:
    """Closing a stream that kept up does not turn its verdict."""
    monitor = Monitor(FPS)
    watch(monitor, range(75))
    for tick in (75, 76):
        admit(monitor, tick)
        drop(monitor, tick, DropReason.CLOSED)
    report = monitor.report()
    assert (report.due, report.on_time_ratio, report.holds) == (75, 1.0, True)
    assert report.read == report.processed + sum(report.dropped.values()) == 77


def test_frames_that_the_source_lost_are_read_and_dropped_but_never_due() -> None:
    """They come as counts with no number, and what was read still adds up."""
    monitor = Monitor(FPS)
    watch(monitor, range(10))
    monitor.record(FrameDropped("s", None, None, None, DropReason.STALE, count=7))
    monitor.record(FrameDropped("s", None, None, None, DropReason.CORRUPT, count=2))
    monitor.record(FrameDropped("s", None, None, None, DropReason.STALE))
    report = monitor.report()
    assert report.dropped == {"stale": 8, "corrupt": 2}
    assert (report.read, report.processed, report.due) == (20, 10, 10)
    assert report.on_time_ratio == 1.0

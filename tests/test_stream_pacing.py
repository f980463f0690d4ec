"""Which frames get a tick of the target rate, and which tick."""

import itertools
import random

import pytest

from stream.pacing import FramePacer


def admitted(times_s: list[float], fps: float = 25.0) -> list[int]:
    """The ticks that a pacer gives, each checked to be above the last."""
    pacer = FramePacer(fps)
    ticks = [tick for tick in map(pacer.admit, times_s) if tick is not None]
    assert all(b > a for a, b in itertools.pairwise(ticks))
    return ticks


@pytest.mark.parametrize("seed", range(5))
def test_jitter_neither_drops_nor_starves(seed: int) -> None:
    """Of 25 frames a second, each up to 15 ms off, all get their tick at 25 a second."""
    rng = random.Random(seed)
    times = [k / 25 + rng.uniform(-0.015, 0.015) for k in range(1000)]
    assert admitted(times) == list(range(1000))


@pytest.mark.parametrize("phase_s", [0.0, 0.01, 0.019, 0.02, 0.021, 0.03, 0.039])
def test_frames_that_fall_between_two_ticks_are_not_thinned_out(phase_s: float) -> None:
    """A camera whose frames come to lie between two ticks still gets (nearly) all of them in."""
    rng = random.Random(7)
    times = [0.0] + [k / 25 + phase_s + rng.gauss(0, 0.004) for k in range(1, 1000)]
    ticks = admitted(times)
    assert len(ticks) >= 995
    assert ticks[-1] + 1 - len(ticks) <= 5


def test_camera_that_is_a_little_fast_or_slow_slips_one_tick_at_a_time() -> None:
    """At 25.05 or 24.95 frames a second for 200 s the ten surplus or missing frames show."""
    for fps in (25.05, 24.95):
        rng = random.Random(1)
        times = [k / fps + rng.gauss(0, 0.003) for k in range(int(fps * 200))]
        ticks = admitted(times)
        dropped, starved = len(times) - len(ticks), ticks[-1] + 1 - len(ticks)
        assert dropped + starved <= 12
        assert (dropped >= 8) if fps > 25 else (starved >= 8)


@pytest.mark.parametrize("source_fps", [30, 50, 60, 120])
def test_faster_source_is_thinned_to_the_target(source_fps: int) -> None:
    """Of a source above 25 every tick gets a frame, and the rest are not taken."""
    times = [k / source_fps for k in range(source_fps * 20)]
    ticks = admitted(times)
    assert ticks[0] == 0 and abs(len(ticks) - 500) <= 1
    assert ticks == list(range(len(ticks)))


def test_frame_is_never_far_from_its_tick() -> None:
    """A frame and the tick it gets are less than three quarters of a period apart."""
    for source_fps in (10, 24, 26, 30, 60):
        pacer = FramePacer(25.0)
        for k in range(1000):
            tick = pacer.admit(k / source_fps)
            if tick is not None:
                assert abs(tick - k / source_fps * 25) <= 0.75


def test_slower_source_starves_ticks() -> None:
    """Of 10 frames a second all are taken; the ticks between them are skipped."""
    times = [k / 10 for k in range(100)]
    ticks = admitted(times)
    assert len(ticks) == 100
    assert ticks[-1] in (247, 248)


def test_burst_after_a_stall_gets_one_tick() -> None:
    """Frames that pile up and arrive together do not fill ticks that have passed."""
    times = [0.0, 0.04, 0.08, 1.0, 1.001, 1.002, 1.003, 1.04]
    assert admitted(times) == [0, 1, 2, 25, 26]


def test_schedule_does_not_drift_over_days() -> None:
    """After ten days of a long uptime, ticks are exact still."""
    first = 3.0e6
    pacer = FramePacer(30_000 / 1001)
    assert pacer.admit(first) == 0
    for tick in (10**6, 25_894_105, 25_894_106):
        assert pacer.admit(first + tick * 1001 / 30_000) == tick

"""Keeping up: late packets are skipped to a key frame, lumps are played out at their own times."""

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.video.stream import VideoStream

from sources.capture_errors import CaptureError
from sources.captured import Losses
from sources.catch_up import CatchUp, Played
from sources.decode import Picture
from sources.live_pictures import live_pictures
from tests.clips import write_pictures

PERIOD_S = 0.04


class Time:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_punctual_stream_is_decoded_whole() -> None:
    """Jitter of a few frames and a slowly drifting clock of the camera's are no lag."""
    for drift in (1.0, 1.0005, 0.9995):
        time, rng = Time(), random.Random(1)
        catch_up = CatchUp(time)
        for number in range(25 * 1800):
            time.now_s = 100.0 + number * PERIOD_S * drift + rng.uniform(0.0, 0.15)
            assert catch_up.take(number * PERIOD_S, number % 25 == 0), (drift, number)


@pytest.mark.parametrize("fps", [2, 5, 10, 25])
def test_pictures_that_build_on_later_ones_are_not_late(tmp_path: Path, fps: int) -> None:
    """A camera's B-frames come after what they build on, which is to be shown after them."""
    pictures = [np.full((48, 64, 3), 8 * number, np.uint8) for number in range(30)]
    options = {"x264-params": "bframes=3:b-adapt=0:keyint=12"}
    film = write_pictures(tmp_path / "film.ts", pictures, rate=Fraction(fps), options=options)
    time = Time()

    class Camera:
        """The film as it would come live: without an end, a packet when it is due."""

        def __init__(self, container: InputContainer) -> None:
            self.container, self.duration = container, None
            self.format, self.streams = container.format, container.streams

        def demux(self, stream: VideoStream) -> Iterator[Any]:
            for packet in self.container.demux(stream):
                time.now_s += 1.0 / fps
                yield packet

    with av.open(str(film)) as container:
        items = []
        with pytest.raises(CaptureError, match="lost"):
            for item in live_pictures(Camera(container), 64 * 48, time):  # type: ignore[arg-type]
                items.append(item)
    assert not [item for item in items if isinstance(item, Losses)]
    assert len([item for item in items if isinstance(item, Picture)]) == 30


def test_a_backlog_is_skipped_to_a_key_frame_that_is_not_late() -> None:
    """Two seconds of silence, then all of it at once: nothing of it is decoded."""
    time = Time()
    catch_up = CatchUp(time)
    taken = []
    for number in range(200):
        due_s = 100.0 + number * PERIOD_S
        silent = 40 <= number < 90
        time.now_s = 100.0 + 90 * PERIOD_S if silent else max(due_s, time.now_s)
        if catch_up.take(number * PERIOD_S, number % 25 == 0):
            taken.append(number)
    skipped = set(range(200)) - set(taken)
    # 78 is the first that is less than LAG_S late; the key frame after it is number 100.
    assert skipped == set(range(40, 100))


def test_packets_without_a_time_follow_those_before_them() -> None:
    time = Time()
    catch_up = CatchUp(time)
    assert catch_up.take(None, False) and catch_up.take(0.0, True)
    time.now_s += 3.0
    assert not catch_up.take(0.04, False) and not catch_up.take(None, True)
    assert catch_up.take(3.0, True) and catch_up.take(None, False)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_jump_of_the_cameras_clock_is_no_lag(jump_s: float) -> None:
    time = Time()
    catch_up = CatchUp(time)
    assert catch_up.take(50.0, True)
    time.now_s += PERIOD_S
    assert catch_up.take(50.0 + jump_s, False)


def test_lumps_are_played_out_at_their_own_times() -> None:
    """Segments of two seconds that come at once take two seconds to show."""
    time = Time()
    played = Played(time, time.sleep)
    shown = []
    for number in range(100):
        if number % 50 == 0:  # a segment is there
            time.now_s = max(time.now_s, 100.0 + number * PERIOD_S)
        played.wait_until_due(number * PERIOD_S)
        shown.append(time.now_s)
    gaps = [b - a for a, b in itertools.pairwise(shown)]
    assert max(gaps) == pytest.approx(PERIOD_S, abs=1e-6)


def test_after_a_pause_or_a_jump_the_schedule_begins_anew() -> None:
    time = Time()
    played = Played(time, time.sleep)
    played.wait_until_due(0.0)
    time.now_s += 5.0
    played.wait_until_due(0.04)
    assert time.now_s == 105.0
    played.wait_until_due(0.08)
    assert time.now_s == pytest.approx(105.04)
    played.wait_until_due(5000.0)
    played.wait_until_due(None)
    assert time.now_s == pytest.approx(105.04)

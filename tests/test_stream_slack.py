"""Answers do not begin what would keep the next frame waiting, and never starve."""

import math
from dataclasses import replace

import pytest
import torch

from stream.buffer import ScheduledFrame, Staged
from stream.slack import Slack
from tests.stream_helpers import HandEngine, video_frame


def scheduled(tick: int, arrived_s: float) -> ScheduledFrame:
    frame = video_frame(tick, arrived_s=arrived_s)
    return ScheduledFrame(frame, tick, tick / 25)


def test_work_is_begun_only_if_it_ends_before_the_next_frame() -> None:
    slack = Slack()
    slack.worked("read", 0.010)
    slack.worked("decode", 0.002)
    slack.saw("a", scheduled(0, 0.005))
    assert slack.fits("read", 0.044), "one frame says nothing of the next"
    slack.saw("a", scheduled(1, 0.045))
    assert slack.fits("read", 0.070)
    assert not slack.fits("read", 0.080) and slack.fits("decode", 0.080)
    assert not slack.fits("decode", 0.084)
    assert slack.fits("never done before", 0.084)
    assert slack.left_s(0.080) == pytest.approx(0.005)
    assert slack.fits("read", 0.0851), "what is overdue is not waited for"


def test_the_nearest_of_all_streams_counts() -> None:
    slack = Slack()
    for stream, late_s in (("a", 0.0), ("b", 0.015)):
        for tick in (0, 1):
            slack.saw(stream, scheduled(tick, tick / 25 + late_s))
    assert slack.left_s(0.078) == pytest.approx(0.002)
    slack.forget("a")
    assert slack.left_s(0.078) == pytest.approx(0.017)
    slack.forget("b")
    assert slack.left_s(0.078) == math.inf


def test_dropped_frames_do_not_lengthen_the_period() -> None:
    """Ticks are counted, so frames that were never taken are not taken for a slower stream."""
    slack = Slack()
    slack.saw("a", scheduled(0, 0.0))
    slack.saw("a", scheduled(5, 0.2))
    assert slack.left_s(0.235) == pytest.approx(0.005)


def test_the_next_frame_comes_when_it_has_been_made_ready() -> None:
    """Where its source's thread encodes it, it is not there yet when it arrives."""
    slack = Slack()
    staged = Staged(torch.zeros(0), {"preprocess": 0.002, "vision": 0.010})
    for tick in (0, 1):
        slack.saw("a", replace(scheduled(tick, tick / 25), staged=staged))
    assert slack.left_s(0.085) == pytest.approx(0.007)


def test_that_work_took_long_is_forgotten_slowly() -> None:
    slack = Slack()
    slack.worked("read", 0.1)
    for tick in (0, 1):
        slack.saw("a", scheduled(tick, tick / 25))
    assert not slack.fits("read", 0.045)
    for _ in range(80):
        slack.worked("read", 0.002)
    assert slack.fits("read", 0.045)


def test_answers_go_on_at_every_frame_and_wait_before_the_next() -> None:
    """With steps longer than a period an answer still gets its token after each frame."""
    hand = HandEngine("a")
    for tick in range(3):
        hand.clock.advance(0.04)
        frame = video_frame(tick, arrived_s=hand.clock())
        assert hand.buffers["a"].put(ScheduledFrame(frame, tick, tick / 25))
        hand.engine.step()
    for work in ("read", "decode"):
        hand.engine._slack.worked(work, 1e3)
    number = hand.ask(max_tokens=4)
    assert hand.engine.step() is False, "a frame is about to come"
    for tick in range(3, 103):
        hand.clock.advance(0.04)
        frame = video_frame(tick, arrived_s=hand.clock())
        assert hand.buffers["a"].put(ScheduledFrame(frame, tick, tick / 25))
        assert hand.engine.step()
        assert hand.engine.step() is False
    assert hand.events["a"].ends()[number].num_tokens > 0
    hand.ask(max_tokens=4)
    assert hand.engine.step() is False
    hand.clock.advance(1.0)  # the camera is lost: nothing to wait for
    assert hand.engine.step()

"""Streams that a device cannot hold are refused, with what was measured."""

import pytest

from stream.capacity import capacity, check_capacity
from tests.stream_helpers import HandEngine

STEPS = {1: 0.009, 2: 0.014, 4: 0.026, 6: 0.039, 8: 0.051}


@pytest.mark.parametrize(("fps", "most"), [(25.0, 4), (20.0, 6), (5.0, 24), (110.0, 0), (90.0, 1)])
def test_as_many_as_fit_a_period_with_some_of_it_left(fps: float, most: int) -> None:
    assert capacity(STEPS, fps) == most


def test_the_refusal_says_what_was_measured() -> None:
    with pytest.raises(ValueError, match=r"5 streams at 25 .* a step of 6 takes 39\.0 ms of 40; it "
                       r"holds 4"):  # fmt: skip
        check_capacity(STEPS, 5, 25.0)
    check_capacity(STEPS, 4, 25.0)
    check_capacity({}, 100, 25.0)


def test_an_engine_lets_in_what_it_holds_and_one_stream_always() -> None:
    hand = HandEngine("a", max_answers=1)
    engine, buffer = hand.engine, hand.buffers["a"]
    engine._steps.frames_s = {1: 0.030, 2: 0.050}
    engine.check_rates([100.0])
    engine.check_rates([25.0, None])
    with pytest.raises(ValueError, match="too many for this device"):
        engine.check_rates([25.0, 25.0])
    engine.close_stream("a", "done")
    engine.step()
    engine.open_stream("fast", buffer, hand.events["a"], fps=100.0)

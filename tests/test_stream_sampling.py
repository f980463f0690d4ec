"""From logits to a token: greedy, or a repeatable draw from the nucleus."""

from collections import Counter

import pytest
import torch

from stream.question import SamplingParams
from stream.sampling import sample

LOGITS = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()


def draws(params: SamplingParams, count: int = 2000, logits: torch.Tensor = LOGITS) -> Counter[int]:
    generator = torch.Generator().manual_seed(params.seed)
    return Counter(sample(logits, int(logits.argmax()), params, generator) for _ in range(count))


def test_temperature_zero_takes_the_likeliest() -> None:
    """Greedy choice ignores everything but the largest logit."""
    assert draws(SamplingParams(), 20, torch.tensor([0.1, 3.0, 2.9])) == {1: 20}


def test_draws_follow_the_probabilities() -> None:
    """At temperature 1 each token is drawn about as often as it is likely."""
    seen = draws(SamplingParams(temperature=1.0), 4000)
    for token, probability in enumerate([0.5, 0.25, 0.15, 0.1]):
        assert seen[token] / 4000 == pytest.approx(probability, abs=0.04)


@pytest.mark.parametrize(
    ("top_p", "nucleus"), [(0.4, {0}), (0.6, {0, 1}), (0.8, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_draws_from_the_nucleus_alone(top_p: float, nucleus: set[int]) -> None:
    """Only the likeliest tokens that together reach top_p are ever drawn, and all of them are."""
    assert set(draws(SamplingParams(temperature=1.0, top_p=top_p))) == nucleus


def test_same_seed_same_tokens() -> None:
    """A draw is repeatable by its seed alone."""

    def series(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        params = SamplingParams(temperature=1.0, seed=seed)
        return [sample(LOGITS, int(LOGITS.argmax()), params, generator) for _ in range(30)]

    assert series(1) == series(1) != series(2)


@pytest.mark.parametrize("temperature", [1e-3, 1e-40, 5e-324])
def test_tiny_temperature_is_as_good_as_greedy(temperature: float) -> None:
    """However small, a temperature draws the likeliest token and breaks nothing."""
    logits = torch.tensor([10.0, 50.0, 49.0, -30.0])
    assert draws(SamplingParams(temperature=temperature), 10, logits) == {1: 10}

"""Quantiles of an endless series: near enough, and no larger however long it is."""

import math
import random

import pytest

from stream.quantiles import Quantiles


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantile_is_right_to_one_per_cent(q: float) -> None:
    """Over four orders of magnitude an estimate is within 1 % of the exact quantile."""
    rng = random.Random(0)
    values = [math.exp(rng.uniform(math.log(1e-4), math.log(1.0))) for _ in range(5000)]
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    exact = sorted(values)[math.ceil(q * len(values)) - 1]
    estimate = quantiles.quantile(q)
    assert estimate is not None
    assert exact <= estimate * (1 + 1e-9) and estimate <= exact * 1.0101


def test_single_value_is_every_quantile() -> None:
    """One value stands for all quantiles."""
    quantiles = Quantiles()
    quantiles.add(0.04)
    for q in (0.01, 0.5, 0.99):
        assert quantiles.quantile(q) == pytest.approx(0.04, rel=0.01)


def test_no_values_have_no_quantile() -> None:
    """Before the first value there is None."""
    assert Quantiles().quantile(0.5) is None


def test_dropped_frames_make_the_tail_infinite() -> None:
    """With two in a hundred infinite, p95 is finite and p99 is not."""
    quantiles = Quantiles()
    for i in range(100):
        quantiles.add(math.inf if i < 2 else 0.01)
    assert quantiles.quantile(0.95) == pytest.approx(0.01, rel=0.01)
    assert quantiles.quantile(0.99) == math.inf


def test_nothing_at_all_is_about_zero() -> None:
    """A latency of 0 counts as at most a millionth."""
    quantiles = Quantiles()
    quantiles.add(0.0)
    assert quantiles.quantile(0.5) == pytest.approx(1e-6)


def test_memory_does_not_grow_with_the_count() -> None:
    """A hundred thousand values up to an hour need no more than some thousand buckets."""
    rng = random.Random(1)
    quantiles = Quantiles()
    for _ in range(100_000):
        quantiles.add(math.exp(rng.uniform(math.log(1e-7), math.log(3600.0))))
    assert quantiles.count == 100_000
    assert len(quantiles._buckets) < 2300

"""Intervals over seeds and contexts against closed forms; the first arrival on a broken line."""

import math

import numpy as np
import pytest

from algorithms.curves import crossed_interval, passes_to_reach
from algorithms.statistics import mean_interval, resamples


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_two_seeds_alone_are_stretched():
    got = crossed_interval([[-1.0] * 5, [1.0] * 5], rng())
    assert got == pytest.approx((0, -math.sqrt(2), math.sqrt(2)))  # both seeds one of the two: a chance of 1/4 each


def test_one_seed_is_the_interval_over_contexts():
    values = rng(1).normal(size=(1, 60))
    got, contexts = crossed_interval(values, rng(2)), mean_interval(values[0], resamples(60, rng(3)))
    assert got.mean == pytest.approx(contexts.mean)
    assert (got.low, got.high) == pytest.approx((contexts.low, contexts.high), abs=0.03)


def test_variances_of_seeds_and_contexts_add():
    S, n = 40, 50
    seeds, contexts = rng(1).normal(0, 2, (S, 1)), rng(2).normal(0, 1.5, (1, n))
    got = crossed_interval(seeds + contexts, rng(), count=20_000)
    std = math.sqrt(seeds.var(ddof=1) / S + contexts.var() / n)
    assert got.mean == pytest.approx(seeds.mean() + contexts.mean())
    assert (got.high - got.low) / 2 == pytest.approx(1.96 * std, rel=0.03)


def test_contexts_are_shared_by_the_seeds():
    """Of what all seeds have in common, more seeds make nothing surer."""
    contexts = rng(1).normal(size=50)
    one, many = (crossed_interval(np.tile(contexts, (S, 1)), rng()) for S in (1, 30))
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.05)


def test_a_context_without_a_number_is_left_out():
    values = np.arange(12.0).reshape(3, 4)
    known = crossed_interval(values[:, [0, 1, 3]], rng())
    values[1, 2] = np.nan
    assert crossed_interval(values, rng()) == known
    assert all(math.isnan(x) for x in crossed_interval([[np.nan]], rng()))
    with pytest.raises(ValueError, match=r"need values \(S, n\)"):
        crossed_interval([1.0, 2.0], rng())


def test_first_arrival():
    passes, reward = [0, 100, 200, 300], [-4.0, -2.0, -3.0, 1.0]
    assert passes_to_reach(passes, reward, -3.0) == 50  # and not the second time
    assert passes_to_reach(passes, reward, -2.0) == 100
    assert passes_to_reach(passes, reward, 0.0) == pytest.approx(275)
    assert passes_to_reach(passes, reward, -5.0) == 0 and passes_to_reach(passes, reward, 1.1) == math.inf
    with pytest.raises(ValueError, match="increasing passes"):
        passes_to_reach([0, 2, 1], [0, 1, 2], 1)

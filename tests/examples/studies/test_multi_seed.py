"""Intervals over seeds and contexts against closed forms; where a curve first reaches a level."""

import math

import numpy as np
import pytest

from examples.studies.multi_seed import crossed_interval, nfe_to_reach


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_two_seeds_alone_are_a_t_interval_of_one_degree():
    got = crossed_interval([[-1.0] * 5, [1.0] * 5])
    assert got == pytest.approx((0, -12.706, 12.706), abs=1e-3)  # the textbook's t of one degree; std of the mean 1


def test_one_seed_is_the_interval_over_contexts():
    values = rng(1).normal(size=(1, 60))
    got = crossed_interval(values)
    half = 2.001 * values.std(ddof=1) / math.sqrt(60)  # t of 59 degrees
    assert got == pytest.approx((values.mean(), values.mean() - half, values.mean() + half), rel=1e-3)


def test_variances_of_seeds_and_contexts_add():
    S, n = 40, 50
    seeds, contexts = rng(1).normal(0, 2, (S, 1)), rng(2).normal(0, 1.5, (1, n))
    got = crossed_interval(seeds + contexts)
    std = math.sqrt(seeds.var(ddof=1) / S + contexts.var(ddof=1) / n)
    assert got.mean == pytest.approx(seeds.mean() + contexts.mean())
    assert (got.high - got.low) / 2 == pytest.approx(1.99 * std, rel=0.01)


def test_contexts_are_shared_by_the_seeds():
    """Of what all seeds have in common, more seeds make nothing surer."""
    contexts = rng(1).normal(size=50)
    one, many = (crossed_interval(np.tile(contexts, (S, 1))) for S in (1, 30))
    assert many == pytest.approx(one)


@pytest.mark.parametrize("S", [2, 3])
@pytest.mark.parametrize(("of_seeds", "of_contexts", "rest"), [(1, 0.1, 0.1), (0.1, 1, 1), (0.3, 3, 1), (0, 0, 1)])
def test_few_seeds_are_covered(S, of_seeds, of_contexts, rest):
    """How often the interval holds the true mean, 0, of 800 tables; resampling two seeds would hold it in 0.65."""
    draw, n, held = rng(5), 60, 0
    for _ in range(800):
        values = draw.normal(0, of_seeds, (S, 1)) + draw.normal(0, of_contexts, n) + draw.normal(0, rest, (S, n))
        interval = crossed_interval(values)
        held += interval.low <= 0 <= interval.high
    assert held / 800 > 0.925


def test_what_is_neither_seed_nor_context_counts_once():
    """Values that are all independent: the mean of S n of them. Its part is in both mean squares, and leaves one."""
    halves = [np.ptp(crossed_interval(rng(i).normal(size=(40, 40)))[1:]) / 2 for i in range(20)]
    assert np.mean(halves) == pytest.approx(1.96 / 40, rel=0.1)


def test_a_context_without_a_number_is_left_out():
    values = np.arange(12.0).reshape(3, 4) ** 2
    known = crossed_interval(values[:, [0, 1, 3]])
    values[1, 2] = np.nan
    assert crossed_interval(values) == known
    assert all(math.isnan(x) for x in crossed_interval([[np.nan]]))
    assert crossed_interval([[2.0]]).mean == 2 and math.isnan(crossed_interval([[2.0]]).low)
    with pytest.raises(ValueError, match=r"need values \(S, n\)"):
        crossed_interval([1.0, 2.0])


def test_first_arrival():
    nfe, reward = [0, 100, 200, 300], [-4.0, -2.0, -3.0, 1.0]
    assert nfe_to_reach(nfe, reward, -3.0) == 50  # and not the second time
    assert nfe_to_reach(nfe, reward, -2.0) == 100
    assert nfe_to_reach(nfe, reward, 0.0) == pytest.approx(275)
    assert nfe_to_reach(nfe, reward, -5.0) == 0 and nfe_to_reach(nfe, reward, 1.1) == math.inf
    with pytest.raises(ValueError, match="increasing NFE"):
        nfe_to_reach([0, 2, 1], [0, 1, 2], 1)

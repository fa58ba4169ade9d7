"""Training times: their marginal distribution, their strata, and how evenly they fill the interval."""

import pytest
import torch

from algorithms.training_times import grid_time, independent_levels, stratified_levels, uniform_time
from cellenv.streams import rng_at


def stratified(units, K, iteration=0):
    """Levels (units, K) of consecutive units."""
    unit, k = torch.arange(units).repeat_interleave(K), torch.arange(K).repeat(units)
    return stratified_levels(unit, k, K=K, rng=rng_at(1, iteration)).reshape(units, K)


def assert_uniform(u):
    """Every tenth of [0, 1) holds a tenth, within five standard deviations."""
    n = u.numel()
    assert 0 <= u.min() and u.max() < 1
    assert (torch.histc(u.float(), 10, 0, 1) - n / 10).abs().max() < 5 * (n * 0.09) ** 0.5


def test_uniform_times_end_at_t_max():
    u = independent_levels([rng_at(1, i) for i in range(4000)])
    assert_uniform(u)
    for t_max in (0.999, 0.8):
        assert torch.equal(uniform_time(u, t_max=t_max), t_max * u)
    assert uniform_time(u.double()).dtype == torch.float32 and torch.equal(uniform_time(u), 0.999 * u)


def test_grid_times_exclude_the_last():
    times = torch.tensor([0.0, 0.25, 0.8, 1.0], dtype=torch.float64)
    u = torch.tensor([0.0, 0.32, 0.34, 0.66, 0.67, 1 - 2**-24])  # the last is the largest below 1
    assert grid_time(u, times=times).tolist() == pytest.approx([0.0, 0.0, 0.25, 0.25, 0.8, 0.8])


@pytest.mark.parametrize("K", [1, 2, 3])
def test_each_stratified_level_is_uniform_over_iterations(K):
    levels = torch.stack([stratified(3, K, iteration) for iteration in range(2000)])
    for unit in range(3):
        for k in range(K):
            assert_uniform(levels[:, unit, k])


@pytest.mark.parametrize("K", [2, 3, 5])
def test_each_stratum_holds_one_level_of_a_unit_uniform_within_it(K):
    levels = torch.cat([stratified(4, K, iteration) for iteration in range(1000)])
    ascending = levels.sort(1).values
    assert torch.equal((ascending * K).long(), torch.arange(K).expand_as(levels))
    assert_uniform(ascending * K % 1)


@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("units", [5, 12, 33])
def test_draw_k_of_the_units_fills_the_interval_evenly(units, K):
    """The largest gap of n golden-ratio points is below 2 / n; of independent ones, about log(n) / n."""
    for levels in stratified(units, K).T:
        ascending = levels.sort().values
        gaps = torch.cat([ascending, ascending[:1] + 1]).diff()
        assert gaps.max() < 2 / units
    mean = torch.stack([uniform_time(stratified(units, K, i).flatten()).mean() for i in range(200)])
    assert mean.std() < 0.6 * (1 / 12 / (units * K)) ** 0.5  # of independent ones: without the factor

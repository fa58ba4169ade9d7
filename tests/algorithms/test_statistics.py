import numpy as np
import pytest

from algorithms.statistics import Interval, mean_interval, nan_mean, resamples, wasserstein_by_group


def test_interval_agrees_with_the_normal_limit():
    values = np.random.default_rng(0).normal(2.0, 3.0, 400)
    interval = mean_interval(values, resamples(400, np.random.default_rng(1)))
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = resamples(60, rng, count=1000)
    hits = [abs(mean_interval(rng.normal(size=60), draws).sign) for _ in range(400)]
    assert 0.03 < np.mean(hits) < 0.09  # truth is 0: the interval misses it in about 5 of 100


def test_pairing_takes_the_noise_that_contexts_share_out():
    rng = np.random.default_rng(0)
    shared, draws = rng.normal(0, 10, 100), resamples(100, rng)
    a, b = shared + 1 + rng.normal(0, 0.1, 100), shared
    assert mean_interval(a - b, draws).sign == 1
    assert mean_interval(b - a, draws).sign == -1
    assert mean_interval(a, draws).sign == 0


def test_interval_leaves_nan_out_and_says_nan_when_nothing_is_left():
    draws = resamples(5, np.random.default_rng(0))
    with_gap = mean_interval([1.0, np.nan, 3.0, np.nan, 2.0], draws)
    assert with_gap.mean == 2.0 and 1.0 <= with_gap.low < 2.0 < with_gap.high <= 3.0
    assert np.isnan(mean_interval([np.nan] * 5, draws)).all()
    with pytest.raises(ValueError, match=r"5 resampled contexts; got \(4,\)"):
        mean_interval([1.0] * 4, draws)


def test_resamples_are_named_by_their_generator():
    np.testing.assert_array_equal(resamples(9, np.random.default_rng(3)), resamples(9, np.random.default_rng(3)))
    assert (resamples(9, np.random.default_rng(3)).sum(1) == 9).all()


def test_sign_of_an_interval():
    assert [Interval(0, low, high).sign for low, high in ((0.1, 1), (-1, -0.1), (-1, 1), (0, 0))] == [1, -1, 0, 0]


def test_nan_mean_along_an_axis():
    np.testing.assert_array_equal(nan_mean([[1, np.nan], [np.nan, np.nan], [2, 4]], axis=1), [1, np.nan, 3])


def test_wasserstein_of_a_shift_is_the_shift_in_sigma_of_its_own_moa():
    real = np.arange(10.0)
    values, moa = np.concatenate([real + 2, real - 3, real]), np.repeat([0, 1, 1], 10)
    reference, reference_moa = np.concatenate([real, real]), np.repeat([0, 1], 10)
    shift_0, shift_1 = 2 / 4.0, 3 / 2.0
    only_shifts = wasserstein_by_group(values[:20], moa[:20], reference, reference_moa, [4.0, 2.0])
    assert only_shifts == pytest.approx((shift_0 + shift_1) / 2)
    two_thirds = wasserstein_by_group(values, moa, reference, reference_moa, [4.0, 2.0])
    half_shifted = 3 / 2 / 2.0  # MoA 1: half of the values are the real ones, half lie 3 below
    assert two_thirds == pytest.approx((10 * shift_0 + 20 * half_shifted) / 30)


def test_wasserstein_sees_a_collapse_that_the_mean_does_not():
    real = np.random.default_rng(0).normal(size=2000)
    group = np.zeros(2000, int)
    collapsed = wasserstein_by_group(np.zeros(2000), group, real, group, [1.0])
    assert collapsed == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)  # E|N(0, 1)|


def test_wasserstein_leaves_out_nan_and_empty_groups():
    got = wasserstein_by_group([1.0, np.nan, 5.0], [0, 0, 1], [0.0, np.nan], [0, 1], [1.0, 1.0, 1.0])
    assert got == 1.0
    assert np.isnan(wasserstein_by_group([np.nan], [0], [0.0], [0], [1.0]))

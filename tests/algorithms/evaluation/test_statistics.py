import numpy as np
import pytest

from algorithms.evaluation.statistics import (
    Interval,
    as_figure,
    bootstrap_counts,
    mean_interval,
    nan_mean,
    wasserstein_by_group,
)


def test_interval_agrees_with_the_normal_limit():
    values = np.random.default_rng(0).normal(2.0, 3.0, 400)
    interval = mean_interval(values, bootstrap_counts(400, np.random.default_rng(1)))
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    counts = bootstrap_counts(60, rng, count=1000)
    hits = [abs(mean_interval(rng.normal(size=60), counts).sign) for _ in range(400)]
    assert 0.03 < np.mean(hits) < 0.09  # truth is 0: the interval misses it in about 5 of 100


def test_pairing_removes_the_noise_that_contexts_share():
    rng = np.random.default_rng(0)
    shared, counts = rng.normal(0, 10, 100), bootstrap_counts(100, rng)
    a, b = shared + 1 + rng.normal(0, 0.1, 100), shared
    assert mean_interval(a - b, counts).sign == 1
    assert mean_interval(b - a, counts).sign == -1
    assert mean_interval(a, counts).sign == 0


def test_interval_ignores_nan_and_is_nan_without_values():
    counts = bootstrap_counts(5, np.random.default_rng(0))
    with_nan = mean_interval([1.0, np.nan, 3.0, np.nan, 2.0], counts)
    assert with_nan.mean == 2.0 and 1.0 <= with_nan.low < 2.0 < with_nan.high <= 3.0
    assert np.isnan(mean_interval([np.nan] * 5, counts)).all()
    with pytest.raises(ValueError, match=r"5 resampled contexts; got \(4,\)"):
        mean_interval([1.0] * 4, counts)


def test_counts_depend_on_their_generator_alone_and_sum_to_n():
    first, again = (bootstrap_counts(9, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first.sum(1) == 9).all() and first.std() == pytest.approx((8 / 9) ** 0.5, rel=0.05)


def test_sign_of_an_interval():
    assert [Interval(0, low, high).sign for low, high in ((0.1, 1), (-1, -0.1), (-1, 1), (0, 0))] == [1, -1, 0, 0]


def test_an_interval_is_stored_and_read_with_none_for_undefined():
    stored = as_figure(Interval(0.5, np.nan, np.inf))
    assert stored == {"mean": 0.5, "ci": [None, None]} and Interval.of(stored).sign == 0
    known = Interval(0.5, 0.25, 0.75)
    assert Interval.of(as_figure(known)) == known


def test_nan_mean_along_an_axis():
    np.testing.assert_array_equal(nan_mean([[1, np.nan], [np.nan, np.nan], [2, 4]], axis=1), [1, np.nan, 3])


def test_wasserstein_of_a_shift_is_the_shift_in_sigma_of_its_own_moa():
    real = np.arange(10.0)
    values, moa = np.concatenate([real + 2, real - 3, real]), np.repeat([0, 1, 1], 10)
    reference, reference_moa = np.concatenate([real, real]), np.repeat([0, 1], 10)
    shift_0, shift_1 = 2 / 4.0, 3 / 2.0
    only_shifts = wasserstein_by_group(values[:20], moa[:20], reference, reference_moa, [4.0, 2.0])
    assert only_shifts == pytest.approx((shift_0 + shift_1) / 2)
    weighted = wasserstein_by_group(values, moa, reference, reference_moa, [4.0, 2.0])
    half_shifted = 3 / 2 / 2.0  # MoA 1: half of the values are the real ones, half lie 3 below
    assert weighted == pytest.approx((10 * shift_0 + 20 * half_shifted) / 30)


def test_wasserstein_detects_a_collapse_that_keeps_the_mean():
    real = np.random.default_rng(0).normal(size=2000)
    group = np.zeros(2000, int)
    collapsed = wasserstein_by_group(np.zeros(2000), group, real, group, [1.0])
    assert collapsed == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)  # E|N(0, 1)|


def test_wasserstein_ignores_nan_and_empty_groups():
    got = wasserstein_by_group([1.0, np.nan, 5.0], [0, 0, 1], [0.0, np.nan], [0, 1], [1.0, 1.0, 1.0])
    assert got == 1.0
    assert np.isnan(wasserstein_by_group([np.nan], [0], [0.0], [0], [1.0]))

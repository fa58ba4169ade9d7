"""Shares of the gap that are closed, against hand-made figures; their intervals; and the judges' margins."""

from dataclasses import replace

import numpy as np
import pytest

from algorithms.evaluation.gap import CONFIRMED_SHARE, capped_share, gap_shares, judge_margins, share_interval
from algorithms.evaluation.statistics import bootstrap_counts
from rewards import custom_reward

N = 200


def share(gain, gap, weights=(5.0, 2.0, 1.0)) -> float:
    return float(capped_share(np.array(gain), np.array(gap), np.array(weights)))


def test_share_is_the_weighted_sum_of_what_is_closed():
    assert share([0.1, 0.2, 0.5], [0.2, 0.4, 1.0]) == pytest.approx(0.5)
    assert share([0.1, 0.0, 0.0], [0.2, 0.4, 1.0]) == pytest.approx(0.5 / 2.8)


def test_a_reward_beyond_real_counts_as_real_and_pays_for_no_other():
    assert share([0.0, 0.0, 100.0], [0.2, 0.4, 1.0]) == pytest.approx(1.0 / 2.8)
    assert share([9.0, 9.0, 9.0], [0.2, 0.4, 1.0]) == 1


def test_a_reward_in_which_real_is_not_above_the_baseline_does_not_count():
    assert share([0.1, 0.0, 7.0], [0.2, 0.0, -3.0]) == pytest.approx(0.5)
    assert share([0.1, -9.0, -9.0], [0.2, 0.0, -3.0]) == pytest.approx(0.5)


def test_a_loss_is_counted_and_a_whole_row_below_its_baseline_is_negative():
    assert share([-0.1, 0.4, 1.0], [0.2, 0.4, 1.0]) == pytest.approx((-0.5 + 0.8 + 1) / 2.8)
    assert share([-0.2, -0.4, -1.0], [0.2, 0.4, 1.0]) == -1


def test_a_negative_weight_turns_a_reward_around():
    assert share([-0.1], [-0.2], [-3.0]) == pytest.approx(0.5) and np.isnan(share([0.1], [0.2], [-3.0]))


def test_without_a_gap_or_with_an_undefined_gain_the_share_is_undefined():
    assert np.isnan(share([0.1, 0.2, 0.3], [0.0, -1.0, np.nan]))
    assert np.isnan(share([np.nan, 0.2, 0.3], [0.2, 0.4, 1.0]))
    assert share([0.1, np.nan, np.nan], [0.2, np.nan, -1.0]) == pytest.approx(0.5)


def test_batches_of_gains_have_a_share_each():
    gain, gap = np.random.default_rng(0).normal(0.2, 1, (2, 7, 3))
    whole = capped_share(gain, gap, np.array([5.0, 2.0, 1.0]))
    np.testing.assert_allclose(whole, [share(a, b) for a, b in zip(gain, gap, strict=True)])


def noisy(rng, mean, std=1.0):
    return mean + std * rng.normal(size=N)


def test_interval_of_one_reward_agrees_with_the_delta_method():
    rng = np.random.default_rng(0)
    gains, gaps = noisy(rng, 1.0, 0.5), noisy(rng, 2.0, 0.5)
    found = share_interval(gains[:, None], gaps[:, None], np.ones(1), bootstrap_counts(N, rng))
    ratio = gains.mean() / gaps.mean()
    half = 1.96 * (gains - ratio * gaps).std() / gaps.mean() / N**0.5
    assert found.mean == pytest.approx(ratio)
    assert (found.low, found.high) == pytest.approx((ratio - half, ratio + half), abs=half / 8)


def test_interval_uses_that_gain_and_gap_are_of_the_same_contexts():
    rng = np.random.default_rng(0)
    shared, counts = noisy(rng, 0.0, 5.0), bootstrap_counts(N, rng)
    gains, gaps = 5 + shared, 10 + 2 * shared  # half of the gap on every context
    found = share_interval(gains[:, None], gaps[:, None], np.ones(1), counts)
    assert found == pytest.approx((0.5, 0.5, 0.5))


def test_a_gap_that_may_be_zero_has_a_share_without_interval():
    rng = np.random.default_rng(1)
    gains, gaps, counts = noisy(rng, 0.1), noisy(rng, 0.05), bootstrap_counts(N, rng)
    gaps += 0.05 - gaps.mean()
    found = share_interval(gains[:, None], gaps[:, None], np.ones(1), counts)
    assert np.isfinite(found.mean) and np.isnan(found.low) and np.isnan(found.high)


SPECS = [
    replace(custom_reward(lambda images: images, name="a", weight=3.0), has_judge=True),
    custom_reward(lambda images: images, name="b"),
]


def test_shares_are_of_all_rewards_by_weight_and_of_each_reward_and_judge():
    def flat(**values):
        return {name: np.full(N, value) for name, value in values.items()}

    base = flat(total=0.0, a=1.0, b=0.0, judge_a=1.0)
    row, real = flat(total=9.0, a=1.2, b=5.0, judge_a=1.1), flat(total=9.0, a=1.4, b=1.0, judge_a=1.4)
    found = gap_shares(row, base, real, SPECS, bootstrap_counts(N, np.random.default_rng(0)))
    assert found.share == pytest.approx(3 * [(3 * 0.2 + 1) / (3 * 0.4 + 1)])
    assert {name: own.mean for name, own in found.own.items()} == pytest.approx({"a": 0.5, "b": 1, "judge_a": 0.25})


def test_a_judges_margin_is_what_it_sees_beyond_its_share_of_the_gain():
    gain = {name: np.array(values) for name, values in (("a", [1.0, 2.0]), ("judge_a", [0.9, 1.0]), ("b", [5.0, 5.0]))}
    found = judge_margins(gain)
    assert list(found) == ["judge_margin_a"]
    np.testing.assert_allclose(found["judge_margin_a"], [0.9 - CONFIRMED_SHARE, 1 - 2 * CONFIRMED_SHARE])

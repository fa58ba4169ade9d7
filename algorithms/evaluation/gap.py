"""How much of the gap from a baseline to real images a gain closes, and how much of it a judge confirms.

n contexts, R rewards, K bootstrap resamples.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from algorithms.evaluation.statistics import Interval, nan_mean, percentile_interval, resampled_means
from rewards.suite.spec import RewardSpec

CONFIRMED_SHARE = 0.6  # of a reward's gain that its judge must see too, at least
UNDEFINED_RESAMPLES = 0.025  # without a gap, at most: beyond, the gap may be 0 and a share of it has no interval

ContextMeans = Mapping[str, NDArray[np.float64]]  # by reward, and by judge as `judge_NAME`: (n,), nan where undefined


def capped_share(
    gain: NDArray[np.float64], gap: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """share = sum_k w_k min(gain_k, gap_k) / sum_k w_k gap_k over the rewards k with w_k gap_k > 0, (..., R) -> (...).

    gain: a row above its baseline. gap: real images above the same baseline. weights: (R,), of the total; a negative
    one turns its reward around. A reward counts up to the level of real images, so that what one gains beyond it cannot
    make up for another; one in which real images do not exceed the baseline has no gap and does not count. At most 1;
    negative if the row is below its baseline; nan where no reward has a gap, or the gain of one that has is nan.
    """
    gain, gap = gain * weights, gap * weights
    has_gap = gap > 0
    closed = np.where(has_gap, np.minimum(gain, gap), 0).sum(-1)
    whole = np.where(has_gap, gap, 0).sum(-1)
    return np.where(whole > 0, closed / np.where(whole > 0, whole, 1), np.nan)


def share_interval(
    gains: NDArray[np.float64],
    gaps: NDArray[np.float64],
    weights: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> Interval:
    """`capped_share` of means over contexts, with its bootstrap interval; gains, gaps (n, R), counts (K, n).

    Every resample asks anew which rewards have a gap. If too many find none, the interval is undefined.
    """
    share = capped_share(nan_mean(gains, axis=0), nan_mean(gaps, axis=0), weights)
    resampled = capped_share(resampled_means(gains, counts), resampled_means(gaps, counts), weights)  # (K,)
    if np.isnan(resampled).mean() > UNDEFINED_RESAMPLES:
        return Interval(float(share), np.nan, np.nan)
    return percentile_interval(float(share), resampled)


class GapShares(NamedTuple):
    """Shares of the gap that are closed."""

    share: Interval  # of all rewards together
    own: dict[str, Interval]  # of each reward and judge alone


def gap_shares(
    row: ContextMeans,
    baseline: ContextMeans,
    real: ContextMeans,
    specs: Sequence[RewardSpec],
    counts: NDArray[np.float64],
) -> GapShares:
    """Shares of the gap from the baseline to real images that a row closes, on the same contexts."""
    weights = {spec.name: spec.weight for spec in specs}

    def closed(weights: Mapping[str, float]) -> Interval:
        gains, gaps = (np.stack([x[name] - baseline[name] for name in weights], axis=1) for x in (row, real))  # (n, R)
        return share_interval(gains, gaps, np.array(list(weights.values())), counts)

    each = weights | {f"judge_{name}": weight for name, weight in weights.items() if f"judge_{name}" in baseline}
    return GapShares(closed(weights), {name: closed({name: weight}) for name, weight in each.items()})


def judge_margins(gain: ContextMeans) -> dict[str, NDArray[np.float64]]:
    """`judge_margin_NAME`, (n,): gain by the judge - 0.6 gain by the rewarding model, of the rewards with a judge.

    Below 0, the judge sees less of the gain than it must: the rest comes from errors of the rewarding model.
    """
    judged = [name for name in gain if f"judge_{name}" in gain]
    return {f"judge_margin_{name}": gain[f"judge_{name}"] - CONFIRMED_SHARE * gain[name] for name in judged}

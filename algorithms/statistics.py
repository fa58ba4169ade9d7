"""How sure a mean is, and how far two distributions lie apart.

A context is the unit of chance: its samples are averaged first, then contexts are resampled.
n contexts, K resamples, B values, M mechanisms of action (MoA).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance


class Interval(NamedTuple):
    """A mean and its confidence interval, in the unit of the values; nan when nothing could be measured."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """+1 when the interval lies above 0, -1 when below, 0 when it holds 0 (or nan)."""
        return int(self.low > 0) - int(self.high < 0)


def resamples(n: int, rng: np.random.Generator, *, count: int = 4000) -> NDArray[np.float64]:
    """How often each of n contexts is drawn in each bootstrap resample, (K, n); every row sums to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=count).astype(np.float64)


def nan_mean(values: ArrayLike, axis: int | None = None) -> NDArray[np.float64]:
    """Mean of what is not nan, along an axis; nan (no warning) where there is nothing."""
    values = np.asarray(values, np.float64)
    seen = ~np.isnan(values)
    count = seen.sum(axis)
    return np.where(count > 0, np.where(seen, values, 0).sum(axis) / np.maximum(count, 1), np.nan)


def mean_interval(values: ArrayLike, draws: NDArray[np.float64], *, level: float = 0.95) -> Interval:
    """Mean and percentile-bootstrap interval; values (n,), nan left out; draws (K, n) from `resamples`.

    A paired difference is the interval of values_a - values_b: a context missing on one side counts on neither.
    Give all metrics and rows the same draws, and their intervals rest on the same resampled contexts.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or draws.shape[1:] != values.shape:
        raise ValueError(f"need one value for each of the {draws.shape[1]} resampled contexts; got {values.shape}")
    seen = ~np.isnan(values)
    if not seen.any():
        return Interval(np.nan, np.nan, np.nan)
    weight = draws[:, seen].sum(1)  # (K,)
    means = (draws[:, seen] @ values[seen])[weight > 0] / weight[weight > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values[seen].mean()), float(low), float(high))


def wasserstein_by_group(
    values: ArrayLike, group: ArrayLike, reference: ArrayLike, reference_group: ArrayLike, sigma: ArrayLike
) -> float:
    """sum_m n_m W1(values of m, reference of m) / sigma_m / sum_m n_m: how far from real images, in sigma.

    values (B,) with group (B,), reference (B',) with its group: int ids of the MoA in [0, M); sigma (M,) > 0.
    nan leaves both sides; n_m counts what is left of the values; a MoA that is empty on one side has no say.
    W1 of two samples of one distribution is not 0 (two normal samples of n: about 1.6 / sqrt(n)): read it beside real
    against real, with as many images.
    """
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    group, reference_group = np.asarray(group), np.asarray(reference_group)
    distance, weight = [], []
    for m, unit in enumerate(np.asarray(sigma, np.float64)):
        own, real = values[group == m], reference[reference_group == m]
        own, real = own[~np.isnan(own)], real[~np.isnan(real)]
        if len(own) and len(real):
            distance.append(wasserstein_distance(own, real) / unit)
            weight.append(len(own))
    return float(np.average(distance, weights=weight)) if weight else float("nan")

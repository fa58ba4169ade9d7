"""Bootstrap confidence intervals of means over contexts, and Wasserstein distances by mechanism of action (MoA).

Contexts are resampled, not images: the samples of a context are averaged first.
n contexts, K bootstrap resamples, B values, M MoAs.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

Figures = Mapping[str, Any]  # as evaluation.json holds them


class Interval(NamedTuple):
    """A mean and its confidence interval, in the unit of the values; nan when nothing could be measured."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, figure: Figures) -> Self:
        """What `as_figure` wrote: nan where it says None."""
        return cls(*(math.nan if value is None else value for value in (figure["mean"], *figure["ci"])))

    @property
    def sign(self) -> int:
        """+1 if the interval lies above 0, -1 if below, 0 if it contains 0 or is nan."""
        return int(self.low > 0) - int(self.high < 0)


def as_figure(interval: Interval) -> dict[str, Any]:
    """{"mean": m, "ci": [low, high]}, None where undefined."""
    mean, low, high = map(json_number, interval)
    return {"mean": mean, "ci": [low, high]}


def json_number(value: float) -> float | None:
    """JSON has no nan and no infinity: undefined is None."""
    return value if math.isfinite(value) else None


def bootstrap_counts(n: int, rng: np.random.Generator, *, count: int = 4000) -> NDArray[np.float64]:
    """How often each of n contexts is drawn in each bootstrap resample, (K, n); every row sums to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=count).astype(np.float64)


def nan_mean(values: ArrayLike, axis: int | None = None) -> NDArray[np.float64]:
    """Mean of the values that are not nan, along an axis; nan, without a warning, where there are none."""
    values = np.asarray(values, np.float64)
    seen = ~np.isnan(values)
    count = seen.sum(axis)
    return np.where(count > 0, np.where(seen, values, 0).sum(axis) / np.maximum(count, 1), np.nan)


def mean_interval(values: ArrayLike, counts: NDArray[np.float64], *, level: float = 0.95) -> Interval:
    """Mean and percentile-bootstrap interval; values (n,), nan left out; counts (K, n) from `bootstrap_counts`.

    For a paired difference, pass values_a - values_b: a context that is nan on one side counts on neither.
    With the same counts for all metrics and rows, their intervals rest on the same resampled contexts.

    Raises:
        ValueError: not one value per resampled context.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1:
        raise ValueError(f"need one value for each context, (n,); got {values.shape}")
    return percentile_interval(float(nan_mean(values)), resampled_means(values, counts), level=level)


def resampled_means(values: ArrayLike, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over contexts in each bootstrap resample, nan left out; (n,) -> (K,) or (n, R) -> (K, R).

    Raises:
        ValueError: the values are not of the resampled contexts.
    """
    values = np.asarray(values, np.float64)
    if counts.shape[1:] != values.shape[:1]:
        raise ValueError(f"need one value for each of the {counts.shape[1]} resampled contexts; got {values.shape}")
    seen = ~np.isnan(values)
    total, weight = counts @ np.where(seen, values, 0), counts @ seen  # (K,) or (K, R)
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


def percentile_interval(estimate: float, resampled: NDArray[np.float64], *, level: float = 0.95) -> Interval:
    """An estimate and the quantiles of its bootstrap resamples, (K,); nan left out, nan if all are.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return Interval(estimate, np.nan, np.nan)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def wasserstein_by_group(
    values: ArrayLike, group: ArrayLike, reference: ArrayLike, reference_group: ArrayLike, sigma: ArrayLike
) -> float:
    """sum_m n_m W1(values of m, reference of m) / sigma_m / sum_m n_m: distance to real images, in sigma.

    values (B,) with group (B,), reference (B',) with its group: int ids of the MoA in [0, M); sigma (M,) > 0.
    nan is left out on both sides; n_m counts the values that remain; a MoA without any on one side, or whose sigma is
    nan, is left out.
    W1 of two samples of one distribution is not 0 (two normal samples of n: about 1.6 / sqrt(n)): compare it with that
    of real against real images, as many of them.
    """
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    group, reference_group = np.asarray(group), np.asarray(reference_group)
    distance, weight = [], []
    for m, unit in enumerate(np.asarray(sigma, np.float64)):
        own, real = values[group == m], reference[reference_group == m]
        own, real = own[~np.isnan(own)], real[~np.isnan(real)]
        if len(own) and len(real) and not np.isnan(unit):
            distance.append(wasserstein_distance(own, real) / unit)
            weight.append(len(own))
    return float(np.average(distance, weights=weight)) if weight else float("nan")

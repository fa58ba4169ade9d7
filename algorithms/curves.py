"""What several training runs say together: a mean with its chance in seeds and contexts, and who is there first.

S seeds, n contexts, K resamples, P points of a curve.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from algorithms.statistics import Interval, resamples


def crossed_interval(
    values: ArrayLike, rng: np.random.Generator, *, count: int = 4000, level: float = 0.95
) -> Interval:
    """Mean of (S, n) values and its interval when seeds and contexts are both drawn anew, each on its own.

    All runs are measured on the same contexts, so a resample of the contexts holds for all seeds. Distances of the
    seeds from their mean are stretched by sqrt(S / (S - 1)) first, or their variance comes out (S - 1) / S of what it
    is; one seed says nothing about seeds. A context that is nan in any run is left out of all.
    Source: the pigeonhole bootstrap, Owen, Annals of Applied Statistics 1 (2007), 386; the stretch is ours.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2:
        raise ValueError(f"need values (S, n), seeds and contexts; got {values.shape}")
    values = values[:, np.isfinite(values).all(0)]
    S, n = values.shape
    if not values.size:
        return Interval(math.nan, math.nan, math.nan)
    centre = values.mean(0)
    stretched = centre + (values - centre) * math.sqrt(S / max(1, S - 1))
    of_seeds, of_contexts = resamples(S, rng, count=count) / S, resamples(n, rng, count=count) / n  # (K, S), (K, n)
    means = (of_seeds @ stretched * of_contexts).sum(1)  # (K,)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def passes_to_reach(passes: ArrayLike, reward: ArrayLike, level: float) -> float:
    """Where the straight lines between the points, (P,) each, first come to a level; inf where they never do."""
    passes, reward = np.asarray(passes, np.float64), np.asarray(reward, np.float64)
    if passes.ndim != 1 or passes.shape != reward.shape or not (np.diff(passes) > 0).all():
        raise ValueError(f"need one reward for each of increasing passes; got {reward.shape} for {passes.tolist()}")
    there = np.flatnonzero(reward >= level)
    if not len(there):
        return math.inf
    after = there[0]
    if after == 0:
        return float(passes[0])
    before = after - 1
    share = (level - reward[before]) / (reward[after] - reward[before])
    return float(passes[before] + share * (passes[after] - passes[before]))

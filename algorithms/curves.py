"""What several training runs say together: a mean with its chance in seeds and contexts, and who is there first.

S seeds, n contexts, P points of a curve.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from algorithms.statistics import Interval


def crossed_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of (S, n) values and its t interval when seeds and contexts are both drawn anew, each on its own.

    All runs are measured on the same contexts: a value is mean + seed + context + rest, each with a variance of its
    own, and Var(mean) = (M_seeds + M_contexts - M_rest) / (S n) in mean squares M, with Satterthwaite's degrees of
    freedom. Two or three seeds far apart make the interval wide, as they should; one seed says nothing about seeds, and
    one value nothing at all. A context that is nan in any run is left out of all.
    Source: Searle, Casella and McCulloch, Variance Components (1992), ch. 4; Satterthwaite, Biometrics 2 (1946), 110.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2:
        raise ValueError(f"need values (S, n), seeds and contexts; got {values.shape}")
    values = values[:, np.isfinite(values).all(0)]
    S, n = values.shape
    if not values.size:
        return Interval(math.nan, math.nan, math.nan)
    mean = values.mean()
    if S * n == 1:
        return Interval(float(mean), math.nan, math.nan)
    seed, context = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - seed[:, None] - context
    squares = np.array([n * seed @ seed, S * context @ context, (rest**2).sum()])
    degrees = np.array([S - 1, n - 1, (S - 1) * (n - 1)]).clip(1)
    M = squares / degrees
    if M[0] < M[2]:  # the seeds differ by less than the rest makes them
        M[[0, 2]] = 0
    variance = M[0] + M[1] - M[2]
    half = math.sqrt(variance / (S * n))
    if variance > 0:
        half *= student.ppf((1 + level) / 2, variance**2 / (M**2 / degrees).sum())
    return Interval(float(mean), float(mean - half), float(mean + half))


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

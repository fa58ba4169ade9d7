"""Multi-seed confidence intervals and sample efficiency. S seeds, n contexts, P points of a curve."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from algorithms.evaluation.statistics import Interval


def crossed_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of values (S, n) and its t interval, with seeds and contexts both random (crossed random effects).

    All runs are measured on the same contexts: a value is mean + seed + context + residual, each with its own variance,
    and Var(mean) = (M_seeds + M_contexts - M_residual) / (S n) in mean squares M, with Satterthwaite's degrees of
    freedom. Two or three seeds far apart give a wide interval; with one seed the interval is over contexts alone, and
    a single value has none (nan). A context that is nan in any run is left out of all.
    Source: Searle, Casella and McCulloch, Variance Components (1992), ch. 4; Satterthwaite, Biometrics 2 (1946), 110.

    Raises:
        ValueError: values are not (S, n).
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
    seed = values.mean(1) - mean  # (S,)
    context = values.mean(0) - mean  # (n,)
    residual = values - mean - seed[:, None] - context
    squares = np.array([n * seed @ seed, S * context @ context, (residual**2).sum()])
    degrees = np.array([S - 1, n - 1, (S - 1) * (n - 1)]).clip(1)
    M = squares / degrees
    if M[0] < M[2]:  # seeds differ by less than the residual explains: no seed variance
        M[[0, 2]] = 0
    variance = M[0] + M[1] - M[2]
    half = math.sqrt(variance / (S * n))
    if variance > 0:
        half *= student_t.ppf((1 + level) / 2, variance**2 / (M**2 / degrees).sum())
    return Interval(float(mean), float(mean - half), float(mean + half))


def nfe_to_reach(nfe: ArrayLike, reward: ArrayLike, level: float) -> float:
    """NFE at which a curve, linear between its points (P,), first reaches a level; inf if it never does.

    Raises:
        ValueError: the NFE do not increase, or there is not one reward for each.
    """
    nfe = np.asarray(nfe, np.float64)
    reward = np.asarray(reward, np.float64)
    if nfe.ndim != 1 or nfe.shape != reward.shape or not (np.diff(nfe) > 0).all():
        raise ValueError(f"need one reward for each of increasing NFE; got {reward.shape} for {nfe.tolist()}")
    reached = np.flatnonzero(reward >= level)
    if not len(reached):
        return math.inf
    after = reached[0]
    if after == 0:
        return float(nfe[0])
    before = after - 1
    share = (level - reward[before]) / (reward[after] - reward[before])
    return float(nfe[before] + share * (nfe[after] - nfe[before]))

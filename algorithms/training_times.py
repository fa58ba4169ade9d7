"""Times t at which a loss on re-noised samples is evaluated: random levels u in [0, 1), and t as their quantile.

A unit is what has times of its own, a group or a sample; K times per unit, n rows.
"""

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import Generator, Tensor

GOLDEN_RATIO = (1 + sqrt(5)) / 2

TimeQuantile = Callable[[Tensor], Tensor]  # u (n,) in [0, 1) -> t (n,)


def uniform_time(u: Tensor, *, t_max: float = 0.999) -> Tensor:
    """t = t_max u, uniform on [0, t_max), (n,) float32.

    At t = 1, x_t is the sample itself and carries no information on the velocity.
    """
    return (t_max * u).float()


def grid_time(u: Tensor, *, times: Tensor) -> Tensor:
    """t uniform over a sampler's times except the last, (n,) float32; times: (S + 1,) for S steps."""
    S = len(times) - 1
    return times.to(u.device)[(S * u).long()].float()


def independent_levels(rngs: Sequence[Generator]) -> Tensor:
    """u uniform on [0, 1), (n,); row i draws from rngs[i]."""
    return torch.cat([torch.rand(1, generator=rng) for rng in rngs])


def stratified_levels(unit: Tensor, k: Tensor, *, K: int, rng: Generator) -> Tensor:
    """u = frac(U + i phi + k / K) of draw k = 0 .. K - 1 of unit i, (n,) float64; unit, k: (n,) int64.

    U is uniform on [0, 1), one number for all ranks, and phi the golden ratio. Every u is uniform on [0, 1) whatever is
    added to U, so that averages keep their mean. The K levels of a unit lie 1 / K apart on a circle: each stratum
    [j / K, (j + 1) / K) holds exactly one, uniform within it. Those of consecutive units, a golden-ratio sequence, fill
    [0, 1) evenly however many there are, which a rank need not know. Source: Cranley and Patterson (1976), SIAM J.
    Numer. Anal. 13, for the random shift of such sequences.
    """
    U = torch.rand(1, generator=rng, dtype=torch.float64)
    return (U + unit.cpu() * GOLDEN_RATIO + k.cpu() / K) % 1

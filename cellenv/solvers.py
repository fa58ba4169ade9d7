"""Solvers of dx/dt = v(x, t) on a grid of times: x(times[0]) goes in, x(times[-1]) comes out.

v takes x (B, ...) and t (B,), and returns the shape of x. `times` is (K + 1,), increasing, in float64.
Evaluations of v a step: Euler and multistep 1, Heun and midpoint 2. Global error: Euler O(h), the others O(h^2).
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
Solver = Callable[[Velocity, Tensor, Tensor], Tensor]


def euler(v: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """x' = x + h v(x, t)."""
    for t, h in _steps(times):
        x = x + h * v(x, _spread(t, x))
    return x


def heun(v: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """x' = x + h/2 [v(x, t) + v(x + h v(x, t), t + h)]."""
    for t, h in _steps(times):
        v_t = v(x, _spread(t, x))
        x = x + h / 2 * (v_t + v(x + h * v_t, _spread(t + h, x)))
    return x


def midpoint(v: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """x' = x + h v(x + h/2 v(x, t), t + h/2)."""
    for t, h in _steps(times):
        x_mid = x + h / 2 * v(x, _spread(t, x))
        x = x + h * v(x_mid, _spread(t + h / 2, x))
    return x


def multistep(v: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Second-order Adams-Bashforth for uneven steps; the first step is Euler's.

    x' = x + h [(1 + w/2) v_k - w/2 v_{k-1}],  w = h_k / h_{k-1}: the line through the last two velocities, integrated.
    """
    v_before, h_before = None, None
    for t, h in _steps(times):
        v_t = v(x, _spread(t, x))
        if v_before is None:
            x = x + h * v_t
        else:
            w = h / h_before
            x = x + h * ((1 + w / 2) * v_t - w / 2 * v_before)
        v_before, h_before = v_t, h
    return x


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun, "midpoint": midpoint, "multistep": multistep}


def _steps(times: Tensor) -> Iterator[tuple[float, float]]:
    """(t_k, h_k = t_{k+1} - t_k) of every step."""
    if times.ndim != 1 or len(times) < 2 or not (times.diff() > 0).all():
        raise ValueError(f"need two or more increasing times in one dimension; got {times.tolist()}")
    grid = times.tolist()
    return ((t, t_next - t) for t, t_next in pairwise(grid))


def _spread(t: float, x: Tensor) -> Tensor:
    """The same time for every sample, (B,), in float32 or better: in bfloat16 a t near 1 becomes 1."""
    return torch.full((len(x),), t, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)

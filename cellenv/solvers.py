"""ODE solvers of dx/dt = v(x, t) on a time grid: take x(times[0]), return x(times[-1]).

v takes x (B, ...) and t (B,), and returns the shape of x. `times` is (K + 1,), increasing, float64; every
solver raises ValueError otherwise. Evaluations of v per step: 1 for Euler and multistep, 2 for Heun and
midpoint. Global error: O(h) for Euler, O(h^2) for the others.
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
        x = x + h * v(x, _time_like(t, x))
    return x


def heun(v: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """x' = x + h/2 [v(x, t) + v(x + h v(x, t), t + h)]."""
    for t, h in _steps(times):
        v_t = v(x, _time_like(t, x))
        x = x + h / 2 * (v_t + v(x + h * v_t, _time_like(t + h, x)))
    return x


def midpoint(v: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """x' = x + h v(x + h/2 v(x, t), t + h/2)."""
    for t, h in _steps(times):
        x_mid = x + h / 2 * v(x, _time_like(t, x))
        x = x + h * v(x_mid, _time_like(t + h / 2, x))
    return x


def multistep(v: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Second-order Adams-Bashforth with variable steps; the first step is Euler.

    x' = x + h [(1 + w/2) v_k - w/2 v_{k-1}] with w = h_k / h_{k-1}: integrates the line through both v.
    """
    previous: tuple[Tensor, float] | None = None  # v and h of the step before
    for t, h in _steps(times):
        v_t = v(x, _time_like(t, x))
        if previous is None:
            x = x + h * v_t
        else:
            v_prev, h_prev = previous
            w = h / h_prev
            x = x + h * ((1 + w / 2) * v_t - w / 2 * v_prev)
        previous = v_t, h
    return x


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun, "midpoint": midpoint, "multistep": multistep}


def velocity_times(solver: Solver, times: Tensor) -> Tensor:
    """Times at which a solver evaluates v on this grid, in their order, float32."""
    asked: list[Tensor] = []

    def record(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return x

    solver(record, torch.zeros(1), times)
    return torch.cat(asked)


def _steps(times: Tensor) -> Iterator[tuple[float, float]]:
    """(t_k, h_k = t_{k+1} - t_k) of every step."""
    if times.ndim != 1 or len(times) < 2 or not (times.diff() > 0).all():
        raise ValueError(f"need two or more increasing times in one dimension; got {times.tolist()}")
    return ((t, t_next - t) for t, t_next in pairwise(times.tolist()))


def _time_like(t: float, x: Tensor) -> Tensor:
    """t repeated for every sample, (B,), in float32 or better: in bfloat16 a time near 1 rounds to 1."""
    return torch.full((len(x),), t, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)

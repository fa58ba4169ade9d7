"""Straight path from a source image x0 (t = 0) to a sample x1 (t = 1), and its time grids.

B batch, C channels, H, W pixels, K steps.
"""

import torch
from torch import Tensor


def lift(t: Tensor, like: Tensor) -> Tensor:
    """Reshape one value per sample, (B,), to (B, 1, 1, 1), so that it broadcasts over (B, C, H, W).

    Raises:
        ValueError: unless there is one value per sample.
    """
    if t.shape != like.shape[:1]:
        raise ValueError(f"need one value per sample, {tuple(like.shape[:1])}; got {tuple(t.shape)}")
    return t.reshape(-1, *[1] * (like.ndim - 1))  # (B, 1, 1, 1)


def interpolate(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x0 + t x1."""
    return (1 - lift(t, x0)) * x0 + lift(t, x0) * x1


def velocity(x0: Tensor, x1: Tensor) -> Tensor:
    """v = d x_t / dt = x1 - x0."""
    return x1 - x0


def velocity_to(x1: Tensor, x_t: Tensor, t: Tensor, *, least: float = 0.05) -> Tensor:
    """v = (x1 - x_t) / max(1 - t, least), the velocity implied by a prediction of x1."""
    return (x1 - x_t) / lift((1 - t).clamp(min=least), x_t)


def uniform_times(steps: int) -> Tensor:
    """K + 1 equally spaced times from 0 to 1, (K + 1,) float64.

    Raises:
        ValueError: if steps < 1.
    """
    if steps < 1:
        raise ValueError(f"need at least one step, got {steps}")
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def edm_times(points: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Noise levels of EDM (arXiv:2206.00364, eq. 5) as times t = 1 / (1 + sigma), (points + 1,) float64.

    sigma_i = (sigma_max^(1/rho) + i / (points - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho for
    i = 0 .. points - 1, then sigma = 0. The times run from 1 / (1 + sigma_max) = 1/81, where the published
    sampler starts with the source itself, to 1.

    Raises:
        ValueError: if points < 2.
    """
    if points < 2:
        raise ValueError(f"need at least two points, got {points}")
    ramp = torch.linspace(0, 1, points, dtype=torch.float64)
    sigma = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([1 / (1 + sigma), sigma.new_ones(1)])

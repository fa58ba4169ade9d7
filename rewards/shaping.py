"""From a z-score to a reward: 0 at the mean of real images, lower on both sides. z and reward are (B,)."""

from collections.abc import Callable

from torch import Tensor

Shaping = Callable[[Tensor], Tensor]

Z_MAX = 5.0  # |z| is clipped here; also the z-score of an object that is missing


def clipped_square(z: Tensor) -> Tensor:
    """-min(|z|, 5)^2, in [-25, 0]. The default: bounded, so that one outlier does not dominate its group."""
    return -(z.abs().clamp(max=Z_MAX) ** 2)


def square(z: Tensor) -> Tensor:
    """-z^2, in (-inf, 0]. Source: CellFluxRL, arXiv:2603.21743."""
    return -(z**2)


def dead_zone(z: Tensor) -> Tensor:
    """-max(min(|z|, 5) - 1, 0)^2, in [-16, 0]. Flat within one sigma, to spare natural variability."""
    return -((z.abs().clamp(max=Z_MAX) - 1).clamp(min=0) ** 2)

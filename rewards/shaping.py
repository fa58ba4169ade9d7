"""From a z-score to a reward: 0 at the mean of real images, falling on both sides. z and the reward are (B,)."""

from collections.abc import Callable

from torch import Tensor

Shaping = Callable[[Tensor], Tensor]

FAR = 5.0  # |z| from which on the default is flat; also the z-score of an object that is not there


def clipped_square(z: Tensor) -> Tensor:
    """-min(|z|, 5)^2, in [-25, 0]. The default: one odd image does not outweigh its group."""
    return -(z.abs().clamp(max=FAR) ** 2)


def square(z: Tensor) -> Tensor:
    """-z^2, in (-inf, 0]. Source: CellFluxRL, arXiv:2603.21743."""
    return -(z**2)


def dead_zone(z: Tensor) -> Tensor:
    """-max(min(|z|, 5) - 1, 0)^2, in [-16, 0]. No pull inside one sigma, so that natural variability survives."""
    return -((z.abs().clamp(max=FAR) - 1).clamp(min=0) ** 2)


def bounded(z: Tensor) -> Tensor:
    """exp(-z^2 / 2) - 1, in [-1, 0]."""
    return (-(z**2) / 2).expm1()

"""Training augmentation of real images. Random draws are arguments, so that a run resumes bit for bit.

n images, C, H, W pixels.
"""

import torch
from torch import Tensor

from cellenv.path import lift


def mirror(x: Tensor, mirrored: Tensor) -> Tensor:
    """Flip images (n, C, H, W) vertically where mirrored[0], horizontally where mirrored[1]; (n,) bool each."""
    for axis, flipped in zip((2, 3), mirrored, strict=True):
        x = torch.where(lift(flipped, x), x.flip(axis), x)
    return x


def dequantise(x: Tensor, u: Tensor) -> Tensor:
    """Dequantised images 2 (X + u) / 255 - 1, of x = 2 X / 255 - 1 with bytes X.

    u: uniform in [0, 1), shaped as x. The result lies in [-1, 1 + 2/255). Source: CellFlux, arXiv:2502.09775.

    Raises:
        ValueError: unless there is one u per pixel.
    """
    if u.shape != x.shape:
        raise ValueError(f"need one number per pixel, {tuple(x.shape)}; got {tuple(u.shape)}")
    return x + (2 / 255) * u

"""What training does to images of real cells. The draws are arguments, so that a run resumes bit for bit.

n images, C, H, W pixels.
"""

import torch
from torch import Tensor

from cellenv.path import lift


def mirror(x: Tensor, mirrored: Tensor) -> Tensor:
    """Images (n, C, H, W) upside down where mirrored[0], left to right where mirrored[1]; mirrored (2, n) bool."""
    for axis, these in zip((2, 3), mirrored, strict=True):
        x = torch.where(lift(these, x), x.flip(axis), x)
    return x


def dequantise(x: Tensor, u: Tensor) -> Tensor:
    """2 (X + u) / 255 - 1 of images x = 2 X / 255 - 1 of bytes X: any value that was rounded down to X.

    u: uniform in [0, 1), shaped as x. The result lies in [-1, 1 + 2/255). Source: CellFlux, arXiv:2502.09775.
    """
    if u.shape != x.shape:
        raise ValueError(f"need one number per pixel, {tuple(x.shape)}; got {tuple(u.shape)}")
    return x + (2 / 255) * u

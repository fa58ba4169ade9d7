"""Channel names of cell images, and the conversion between stored bytes and [-1, 1]."""

import torch
from torch import Tensor

CHANNELS = ("actin", "tubulin", "DNA")  # order of the channel axis in BBBC021 and in the embedded world


def to_uint8(images: Tensor) -> Tensor:
    """round(127.5 (x + 1)) of images in [-1, 1], of any shape, clamped to 0..255, as uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(raw: Tensor) -> Tensor:
    """x / 127.5 - 1 of bytes 0..255, of any shape, as float32 in [-1, 1] on the same device.

    Raises:
        ValueError: if raw is not uint8.
    """
    if raw.dtype != torch.uint8:
        raise ValueError(f"need uint8 values 0 to 255; got {raw.dtype}")
    return raw.float().div_(127.5).sub_(1)  # in place: `float` has just made a copy

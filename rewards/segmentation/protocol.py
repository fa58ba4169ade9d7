"""What every segmenter takes and gives. B batch, C channels, H, W pixels.

Nuclei come from the DNA channel alone, cells from actin and tubulin alone. A segmenter that lets the nucleus guide the
cell mask makes the cell follow the nucleus, and then "nucleus inside the cell" is true of every image.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

CHANNELS = ("actin", "tubulin", "DNA")


class Masks(NamedTuple):
    """Integer labels of the objects of each image: 0 is background, 1..n the objects. (B, H, W) int32 each."""

    nuclei: Tensor
    cells: Tensor


class Segmenter(Protocol):
    """Images (B, C, H, W) in [-1, 1] and the names of their channels -> Masks, on the device of the images."""

    def __call__(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks: ...


def split_channels(images: Tensor, channels: Sequence[str], *, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Check the images, (B, C, H, W), and part them: DNA, (B, 1, H, W), and actin and tubulin, (B, 2, H, W). float32.

    `multiple`: height and width must be multiples of it.
    """
    channels = tuple(channels)
    if sorted(channels) != sorted(set(channels)) or not set(CHANNELS) <= set(channels):
        raise ValueError(f"need channels named {', '.join(CHANNELS)}, each once; got {channels}")
    if images.ndim != 4 or images.shape[1] != len(channels):
        raise ValueError(
            f"need images (B, {len(channels)}, H, W), a plane for each of {channels}; got {tuple(images.shape)}"
        )
    height, width = images.shape[2:]
    if min(height, width) < 16 or height % multiple or width % multiple:
        raise ValueError(
            f"need height and width of at least 16 px, multiples of {multiple}; got {height} x {width}: crop or pad"
        )
    if not images.is_floating_point():
        raise ValueError(f"need floating point images in [-1, 1], got {images.dtype}: use x / 127.5 - 1 for 0..255")
    images = images.float()
    if images.numel():
        low, high = (float(bound) for bound in images.aminmax())  # nan if any pixel is nan
        if not (low >= -1.001 and high <= 1.001):
            raise ValueError(
                f"need finite pixels in [-1, 1], got values from {low:g} to {high:g}: clamp or rescale the images"
            )
    planes = dict(zip(channels, images.unbind(1), strict=True))  # (B, H, W) each
    return planes["DNA"].unsqueeze(1), torch.stack([planes["actin"], planes["tubulin"]], 1)

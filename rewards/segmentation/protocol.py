"""What every segmenter takes and gives. B batch, C channels, H, W pixels.

Nuclei come from the DNA channel alone, cells from actin and tubulin alone. A segmenter that lets the nucleus guide the
cell mask makes the cell follow the nucleus, and then "nucleus inside the cell" is true of every image.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cellenv.checks import check_pixels

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
    check_pixels(images, "a segmenter")
    planes = dict(zip(channels, images.float().unbind(1), strict=True))  # (B, H, W) each
    return planes["DNA"].unsqueeze(1), torch.stack([planes["actin"], planes["tubulin"]], 1)

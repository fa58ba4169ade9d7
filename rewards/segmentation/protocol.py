"""What every segmenter takes and returns. B batch, C channels, H, W pixels.

Nuclei are segmented in the DNA channel alone, cells in actin and tubulin alone. If the nucleus could
influence the mask of the cell, for example as the seed of a watershed, the mask would follow it, and every
nucleus would lie inside a cell.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cellenv.checks import check_pixels
from cellenv.images import CHANNELS

__all__ = ["CHANNELS", "Masks", "NucleusSegmenter", "Segmenter", "split_channels"]


class Masks(NamedTuple):
    """Labels of the objects in each image, (B, H, W) int32 each: 0 is background, 1..n the objects."""

    nuclei: Tensor
    cells: Tensor


class Segmenter(Protocol):
    """Images (B, C, H, W) in [-1, 1] and the names of their channels -> Masks, on the same device."""

    def __call__(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks: ...


class NucleusSegmenter(Segmenter, Protocol):
    """A segmenter that also finds nuclei alone, in images of any size such as whole fields of view."""

    def find_nuclei(self, dna: Tensor) -> Tensor:
        """Labels (B, H, W) int32 of DNA (B, 1, H, W) in [-1, 1]."""
        ...


def split_channels(images: Tensor, channels: Sequence[str], *, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Check and split images: DNA, (B, 1, H, W), and actin with tubulin, (B, 2, H, W); float32, detached.

    Args:
        images: (B, C, H, W) in [-1, 1].
        channels: C different names, among them DNA, and actin or tubulin; without one of the two, the other stands in.
        multiple: H and W must be multiples of it.

    Raises:
        ValueError: channel names, shape or pixel values are not as above, or H or W is below 16 px.
    """
    channels = tuple(channels)
    body = [name for name in ("actin", "tubulin") if name in channels]
    if sorted(channels) != sorted(set(channels)) or "DNA" not in channels or not body:
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
    planes = dict(zip(channels, images.detach().float().unbind(1), strict=True))  # (B, H, W) each
    return planes["DNA"].unsqueeze(1), torch.stack([planes[body[0]], planes[body[-1]]], 1)

"""Judges: a classifier and a segmenter that never train a generator, unlike the rewards' in architecture and seed.

A generator that learns to please the networks of its rewards, and not to draw cells, does not please these.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rewards.classifier import ASSETS, Classifier
from rewards.segmentation.embedded import EmbeddedSegmenter
from rewards.segmentation.protocol import CHANNELS


class JudgeClassifier(Classifier):
    """Plain wide kernels, no residuals, on the image at half resolution; F = 64 mixtures of 128 means and 128 maxima.

    Few features, because distances between distributions are taken in them: 64 x 64 covariances need only hundreds of
    images.
    """

    shipped = ASSETS / "judge.safetensors"

    def __init__(self, moas: Sequence[str], *, size: Sequence[int] = (3, 96, 96), channels: Sequence[str] = CHANNELS):
        trunk = nn.Sequential(
            nn.AvgPool2d(2),
            *stage(size[0], 32, kernel=7),  # (B, 32, H / 4, W / 4)
            *stage(32, 64, kernel=5),  # (B, 64, H / 8, W / 8)
            *stage(64, 96, kernel=5),  # (B, 96, H / 16, W / 16)
            *stage(96, 128, kernel=3),  # (B, 128, H / 32, W / 32)
        )
        super().__init__(trunk, 64, moas, size, channels)
        self.mix = nn.Sequential(nn.Linear(256, 64), nn.GELU())

    def pool(self, maps: Tensor) -> Tensor:
        return self.mix(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))


def stage(n_in: int, n_out: int, kernel: int) -> list[nn.Module]:
    """Convolve, normalise, bend, halve."""
    return [nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2), nn.GroupNorm(8, n_out), nn.GELU(), nn.MaxPool2d(2)]


class JudgeSegmenter(EmbeddedSegmenter):
    """Fewer and wider levels than the rewarding segmenter's, trained on the plates and cells of another world seed."""

    shipped = ASSETS / "judge_segmenter.safetensors"

    def __init__(
        self,
        nucleus_widths: Sequence[int] = (12, 20, 32),
        cell_widths: Sequence[int] = (12, 24, 36, 48),
        least_nucleus: int = 30,
        least_cell: int = 100,
    ):
        super().__init__(nucleus_widths, cell_widths, least_nucleus, least_cell)

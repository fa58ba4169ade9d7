"""Held-out classifier and segmenter, which expose reward hacking: no generator is trained against them.

Their architecture and training seed differ from those of the models in the rewards.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rewards.classifier import ASSETS, Classifier
from rewards.segmentation.embedded import EmbeddedSegmenter
from rewards.segmentation.protocol import CHANNELS


class JudgeClassifier(Classifier):
    """Plain convolutions with large kernels, on the image at half resolution. F = 64.

    Few features, because Fréchet distances are taken in them: a 64 x 64 covariance needs only hundreds of
    images.

    Args:
        moas: names of the mechanisms of action; position is the id.
        size: (C, H, W) of the images.
        channels: their names, in order.
    """

    shipped = ASSETS / "judge.safetensors"

    def __init__(self, moas: Sequence[str], *, size: Sequence[int] = (3, 96, 96), channels: Sequence[str] = CHANNELS):
        trunk = nn.Sequential(
            nn.AvgPool2d(2),
            *conv_block(size[0], 32, kernel=7),  # (B, 32, H / 4, W / 4)
            *conv_block(32, 64, kernel=5),  # (B, 64, H / 8, W / 8)
            *conv_block(64, 96, kernel=5),  # (B, 96, H / 16, W / 16)
            *conv_block(96, 128, kernel=3),  # (B, 128, H / 32, W / 32)
        )
        super().__init__(trunk, 64, moas, size, channels)
        self.mix = nn.Sequential(nn.Linear(256, 64), nn.GELU())

    def pool(self, maps: Tensor) -> Tensor:
        """A learned projection of the means and maxima of all maps, (B, 128, h, w) -> (B, 64)."""
        return self.mix(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))


def conv_block(n_in: int, n_out: int, kernel: int) -> list[nn.Module]:
    """Conv, GroupNorm, GELU, max-pool."""
    return [nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2), nn.GroupNorm(8, n_out), nn.GELU(), nn.MaxPool2d(2)]


class JudgeSegmenter(EmbeddedSegmenter):
    """An `EmbeddedSegmenter` with fewer and wider levels, trained on another seed of the embedded world."""

    shipped = ASSETS / "judge_segmenter.safetensors"

    def __init__(
        self,
        nucleus_widths: Sequence[int] = (12, 20, 32),
        cell_widths: Sequence[int] = (12, 24, 36, 48),
        **floors: float,
    ):
        super().__init__(nucleus_widths, cell_widths, **floors)

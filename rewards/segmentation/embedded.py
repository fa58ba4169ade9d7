"""The embedded segmenter: two small U-Nets that predict Cellpose's targets, decoded as Cellpose does.

B batch, C channels, H, W pixels. Made by examples/train_segmenter.py; the weights lie in rewards/assets.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from cellenv.checkpoints import load_state, load_weights, save_weights
from rewards.segmentation.decode import decode, tidy
from rewards.segmentation.protocol import CHANNELS, Masks, split_channels

ASSETS = Path(__file__).parents[1] / "assets"
POOL = 4  # px: extremes are taken of means over 4 x 4 px, so that noise makes no contrast
LEAST_RANGE = 0.4  # of [-1, 1]: a flatter image is not stretched to full contrast
CHUNK = 64  # images at once: the activations stay in the cache


def normalise(x: Tensor) -> Tensor:
    """(x - low) / max(high - low, 0.4), low and high the extremes of 4 x 4 px means, per image and channel. As x."""
    means = avg_pool2d(x, POOL)
    low, high = means.amin((2, 3), keepdim=True), means.amax((2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=LEAST_RANGE)


class Double(nn.Sequential):
    """Two 3 x 3 convolutions, each with a ReLU."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )


class FlowNet(nn.Module):
    """A U-Net without norms: (B, C, H, W) -> (B, 3, H, W), 5 x flow (dy, dx) and the logit of being inside.

    widths: channels at full, half, ... resolution; H and W are multiples of 2^(levels - 1).
    """

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        pairs = list(pairwise(widths))  # (fine, coarse)
        self.down = nn.ModuleList([Double(channels, widths[0]), *(Double(fine, coarse) for fine, coarse in pairs)])
        self.up = nn.ModuleList([Double(coarse + fine, fine) for fine, coarse in reversed(pairs)])
        self.to_targets = nn.Conv2d(widths[0], 3, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down[0](x)
        skips = [x]
        for block in self.down[1:]:
            x = block(max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat([interpolate(x, scale_factor=2.0), skips.pop()], 1))
        return self.to_targets(x)


class EmbeddedSegmenter(nn.Module):
    """Nuclei from DNA alone, cells from actin and tubulin alone. Frozen: no gradient passes. -> Masks.

    nucleus_widths, cell_widths: of the two U-Nets; the defaults have 57 k and 156 k parameters.
    least_nucleus, least_cell: px^2; smaller objects are specks and left out.
    """

    shipped: ClassVar[Path] = ASSETS / "segmenter.safetensors"  # the weights of the embedded world

    def __init__(
        self,
        nucleus_widths: Sequence[int] = (8, 16, 24, 32),
        cell_widths: Sequence[int] = (8, 16, 32, 36, 48),
        least_nucleus: int = 30,
        least_cell: int = 100,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "nucleus_widths": list(nucleus_widths),
            "cell_widths": list(cell_widths),
            "least_nucleus": least_nucleus,
            "least_cell": least_cell,
        }
        self.nuclei = FlowNet(1, nucleus_widths)  # sees DNA
        self.cells = FlowNet(2, cell_widths)  # sees actin and tubulin
        self.multiple = 2 ** (max(len(nucleus_widths), len(cell_widths)) - 1)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # twice as fast on a CPU

    @torch.no_grad()
    def forward(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks:
        """Labels of images (B, C, H, W) in [-1, 1]; H and W are multiples of `multiple`."""
        dna, body = split_channels(images, channels, multiple=self.multiple)
        nuclei = self.labels(self.nuclei, dna, self.config["least_nucleus"])
        return Masks(nuclei, self.labels(self.cells, body, self.config["least_cell"]))

    def labels(self, network: FlowNet, x: Tensor, smallest: int) -> Tensor:
        """One network's objects, (B, H, W) int32."""
        chunks = [x.new_zeros((0, *x.shape[2:]), dtype=torch.int32)]
        with torch.autocast(x.device.type, enabled=False):
            for chunk in x.split(CHUNK):
                out = network(normalise(chunk).contiguous(memory_format=torch.channels_last))  # (b, 3, H, W)
                chunks.append(tidy(decode(out[:, :2], out[:, 2]), smallest))
        return torch.cat(chunks)

    def save_pretrained(self, path: str | Path, training: dict[str, Any] | None = None) -> None:
        """Write weights and JSON whole or not at all; `training` records how they came about."""
        about = {"model": type(self).__name__} | self.config | {"training": training or {}}
        save_weights(path, self.state_dict(), about)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> Self:
        """The segmenter saved there, or the embedded world's."""
        path = cls.shipped if path is None else path
        config, weights = load_weights(path)
        if config.get("model") != cls.__name__:
            raise ValueError(f"{path} holds a {config.get('model')}, need a {cls.__name__}")
        segmenter = cls(**{key: value for key, value in config.items() if key not in ("model", "training")})
        load_state(segmenter, weights, path)
        return segmenter

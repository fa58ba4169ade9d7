"""IMPA: a control's content rendered in the style of a compound; networks and model. Losses: impa_losses.py.

Palma et al., Nature Communications 16 (2025), after StarGAN v2, arXiv:1912.01865. Content x0, compound c, noise z,
style s = F(c, z), style encoder E, generator G with AdaIN (arXiv:1703.06868), discriminator D with one logit per
compound.

Departure: one style encoder for all compounds instead of an output for each.

B batch, C, H, W image, D condition size, F features, S style size, Z noise size, P compounds.
"""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellenv.streams import normal_like
from cellenv.weights_io import load_model, load_weights, save_weights


@dataclass(frozen=True, kw_only=True)
class IMPAConfig:
    """Sizes of the four networks.

    Raises:
        ValueError: the images cannot be unshuffled and halved to the deepest level.
    """

    size: tuple[int, int, int] = (3, 96, 96)  # C, H, W of the images
    condition_dim: int = 64  # D
    compounds: int = 34  # P
    width: int = 32  # features of the first level; doubled at every next one
    levels: int = 3  # H and W are halved between them
    patch: int = 2  # p x p pixels become channels before the networks, and pixels again after them
    style_dim: int = 64  # S
    noise_dim: int = 16  # Z

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))  # JSON has lists
        factor = self.patch * 2 ** (self.levels - 1)
        if len(self.size) != 3 or any(pixels % factor for pixels in self.size[1:]):
            raise ValueError(f"need size (C, H, W) with H and W divisible by {factor}; got {self.size}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each level."""
        return tuple(self.width * 2**level for level in range(self.levels))


def adain(h: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Adaptive instance normalisation of features (B, F, H, W) to mean and std over H, W, (B, F) each."""
    return F.instance_norm(h) * std[:, :, None, None] + mean[:, :, None, None]


class ResBlock(nn.Module):
    """(skip(h) + f(h)) / sqrt 2, f = norm, SiLU, conv, resize, norm, SiLU, conv.

    resize: 1/2 halves H and W, 2 doubles them. style_dim: > 0 is AdaIN by a style of that size, 0 instance
    normalisation, None no normalisation.
    """

    def __init__(self, features_in: int, features_out: int, resize: float = 1, style_dim: int | None = 0):
        super().__init__()
        self.resize, self.style_dim = resize, style_dim
        self.first = nn.Conv2d(features_in, features_out, 3, padding=1)
        self.second = nn.Conv2d(features_out, features_out, 3, padding=1)
        self.skip = nn.Conv2d(features_in, features_out, 1, bias=False)
        if style_dim:
            self.affine = nn.ModuleList(nn.Linear(style_dim, 2 * f) for f in (features_in, features_out))

    def forward(self, h: Tensor, style: Tensor | None = None) -> Tensor:
        out = self._resize(self.first(F.silu(self._normalize(h, 0, style))))
        out = self.second(F.silu(self._normalize(out, 1, style)))
        return (self._resize(self.skip(h)) + out) / 2**0.5

    def _normalize(self, h: Tensor, layer: int, style: Tensor | None) -> Tensor:
        if self.style_dim:
            mean, std_offset = self.affine[layer](style).chunk(2, dim=1)
            return adain(h, mean, 1 + std_offset)
        return h if self.style_dim is None else F.instance_norm(h)

    def _resize(self, h: Tensor) -> Tensor:
        if self.resize == 1:
            return h
        return F.avg_pool2d(h, 2) if self.resize < 1 else F.interpolate(h, scale_factor=2, mode="nearest")


class Generator(nn.Module):
    """G: (x0 (B, C, H, W), s (B, S)) -> (B, C, H, W). The encoder removes the style of x0, the decoder applies s."""

    def __init__(self, config: IMPAConfig):
        super().__init__()
        self.patch, widths, style_dim = config.patch, config.widths, config.style_dim
        channels, deepest = config.size[0] * config.patch**2, widths[-1]
        down = pairwise(widths)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1),
            *(ResBlock(a, b, 1 / 2) for a, b in down),
            ResBlock(deepest, deepest),
        )
        up = pairwise(widths[::-1])
        self.decoder = nn.ModuleList(
            [ResBlock(deepest, deepest, 1, style_dim), *(ResBlock(a, b, 2, style_dim) for a, b in up)]
        )
        self.out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, x0: Tensor, style: Tensor) -> Tensor:
        h = self.encoder(F.pixel_unshuffle(x0, self.patch))
        for block in self.decoder:
            h = block(h, style)
        return F.pixel_shuffle(self.out(F.silu(F.instance_norm(h))), self.patch)


class ConvEncoder(nn.Module):
    """Images (B, C, H, W) -> (B, n) without normalisation: style encoder and discriminator."""

    def __init__(self, config: IMPAConfig, n: int):
        super().__init__()
        self.patch, widths = config.patch, config.widths
        channels = config.size[0] * config.patch**2
        blocks = (ResBlock(a, b, 1 / 2, None) for a, b in pairwise(widths))
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1), *blocks, ResBlock(widths[-1], widths[-1], 1 / 2, None)
        )
        self.head = nn.Linear(widths[-1], n)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.trunk(F.pixel_unshuffle(x, self.patch))).mean((2, 3)))


class StyleMapping(nn.Module):
    """F: style of a compound, (condition (B, D), z (B, Z)) -> (B, S)."""

    def __init__(self, config: IMPAConfig):
        super().__init__()
        hidden = 4 * config.style_dim
        self.layers = nn.Sequential(
            nn.Linear(config.condition_dim + config.noise_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, config.style_dim),
        )

    def forward(self, condition: Tensor, z: Tensor) -> Tensor:
        return self.layers(torch.cat([condition, z], dim=1))


@dataclass(frozen=True, kw_only=True)
class IMPAFile:
    """What config.json says."""

    baseline: Literal["impa"] = "impa"
    network: IMPAConfig
    metadata: dict[str, Any] = field(default_factory=dict)


class IMPA(nn.Module):
    """Treated cells from controls, with the interface of `CellFlux`, in one pass of G. E is used in training only."""

    def __init__(self, config: IMPAConfig):
        super().__init__()
        self.config = config
        self.generator, self.mapping = Generator(config), StyleMapping(config)
        self.style_encoder = ConvEncoder(config, config.style_dim)
        self.to(memory_format=torch.channels_last)  # a quarter faster on a CPU

    @torch.no_grad()
    def sample(self, x0: Tensor, condition: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """(x1, x0), (B, C, H, W) each, x1 clamped to [-1, 1]; z of each sample comes from its own seed, (B,) int64."""
        z = normal_like(x0.new_empty(len(x0), self.config.noise_dim), seed)
        return self.generator(x0, self.mapping(condition, z)).clamp(-1, 1), x0

    def save_pretrained(self, folder: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write folder/model.safetensors and folder/config.json."""
        config = IMPAFile(network=self.config, metadata=metadata or {})
        save_weights(folder, self.state_dict(), asdict(config))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Model that `save_pretrained` wrote, in eval mode on the CPU."""
        config, weights = load_weights(folder, IMPAFile)
        return load_model(lambda: cls(config.network), weights, folder).eval()

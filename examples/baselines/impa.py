"""IMPA: a control's content redrawn in the style of a compound, learned against a discriminator.

Palma et al., Nature Communications 16 (2025), in the way of StarGAN v2, arXiv:1912.01865. With content x0, compound c,
noise z, style s = F(c, z), style encoder E, generator G (AdaIN, arXiv:1703.06868), discriminator D with an answer for
each compound,

    L_D = softplus(-D_c(x1)) + softplus(D_c(G(x0, s))) + R1,      R1 = gamma / 2 |grad_x D_c(x1)|^2
    L_G = softplus(-D_c(G(x0, s))) + style |s - E(G(x0, s))| + cycle |x0 - G(G(x0, s), E(x0))|
          - variety |G(x0, s) - G(x0, s')|,                       all |.| means of absolute values.

Departures: one style encoder for all compounds instead of an output for each.

B batch, C, H, W image, D condition size, F features, S style size, Z noise size, P compounds.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellenv.checkpoints import load_state, load_weights, save_weights
from cellenv.streams import normal_like


@dataclass(frozen=True, kw_only=True)
class IMPAConfig:
    """Sizes of the four networks."""

    size: tuple[int, int, int] = (3, 96, 96)  # C, H, W of the images
    condition_dim: int = 64  # D
    compounds: int = 34  # P
    width: int = 32  # features at the first level; every level doubles them
    levels: int = 3  # H and W are halved between them
    patch: int = 2  # p x p pixels become channels before the networks, and pixels again after them
    style: int = 64  # S
    noise: int = 16  # Z

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))  # JSON brings lists
        factor = self.patch * 2 ** (self.levels - 1)
        if len(self.size) != 3 or any(pixels % factor for pixels in self.size[1:]):
            raise ValueError(f"need size (C, H, W) with H and W divisible by {factor}; got {self.size}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each level."""
        return tuple(self.width * 2**level for level in range(self.levels))


def adain(h: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Features (B, F, H, W) moved and scaled to this mean and standard deviation over H, W, (B, F) each."""
    return F.instance_norm(h) * std[:, :, None, None] + mean[:, :, None, None]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(-real) + softplus(fake) of what D answers, (B,) each: little where real is high and fake low."""
    return F.softplus(-real) + F.softplus(fake)


def generator_loss(fake: Tensor) -> Tensor:
    """softplus(-fake), (B,): little where D answers that the generated image is real."""
    return F.softplus(-fake)


def gradient_penalty(answer: Tensor, images: Tensor) -> Tensor:
    """|grad_x D(x)|^2 / 2 at real images, (B,); answer (B,) was made from images (B, ...) that ask for a gradient.

    Source: Mescheder et al., arXiv:1801.04406, eq. 9 (R1).
    """
    (gradient,) = torch.autograd.grad(answer.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1) / 2


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean |a - b| of each sample, (B, ...) twice -> (B,)."""
    return (a - b).float().abs().flatten(1).mean(1)


class Block(nn.Module):
    """(skip(h) + f(h)) / sqrt 2: normalise, convolve, resize, normalise, convolve; a style says mean and std of both.

    resize: 1/2 halves H and W, 2 doubles them. style_dim 0: features are normalised as they are; None: not at all.
    """

    def __init__(self, features_in: int, features_out: int, resize: float = 1, style_dim: int | None = 0):
        super().__init__()
        self.resize, self.style_dim = resize, style_dim
        self.first = nn.Conv2d(features_in, features_out, 3, padding=1)
        self.second = nn.Conv2d(features_out, features_out, 3, padding=1)
        self.skip = nn.Conv2d(features_in, features_out, 1, bias=False)
        if style_dim:
            self.looks = nn.ModuleList(nn.Linear(style_dim, 2 * f) for f in (features_in, features_out))

    def forward(self, h: Tensor, style: Tensor | None = None) -> Tensor:
        out = self._resized(self.first(F.silu(self._normalised(h, 0, style))))
        out = self.second(F.silu(self._normalised(out, 1, style)))
        return (self._resized(self.skip(h)) + out) / 2**0.5

    def _normalised(self, h: Tensor, which: int, style: Tensor | None) -> Tensor:
        if self.style_dim:
            mean, more = self.looks[which](style).chunk(2, dim=1)
            return adain(h, mean, 1 + more)
        return h if self.style_dim is None else F.instance_norm(h)

    def _resized(self, h: Tensor) -> Tensor:
        if self.resize == 1:
            return h
        return F.avg_pool2d(h, 2) if self.resize < 1 else F.interpolate(h, scale_factor=2, mode="nearest")


class Generator(nn.Module):
    """G: (x0 (B, C, H, W), s (B, S)) -> (B, C, H, W). The encoder drops the style of x0, the decoder puts on s."""

    def __init__(self, config: IMPAConfig):
        super().__init__()
        self.patch, widths, style = config.patch, config.widths, config.style
        channels, deepest = config.size[0] * config.patch**2, widths[-1]
        down = pairwise(widths)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1),
            *(Block(a, b, 1 / 2) for a, b in down),
            Block(deepest, deepest),
        )
        up = pairwise(widths[::-1])
        self.decoder = nn.ModuleList([Block(deepest, deepest, 1, style), *(Block(a, b, 2, style) for a, b in up)])
        self.out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, x0: Tensor, style: Tensor) -> Tensor:
        h = self.encoder(F.pixel_unshuffle(x0, self.patch))
        for block in self.decoder:
            h = block(h, style)
        return F.pixel_shuffle(self.out(F.silu(F.instance_norm(h))), self.patch)


class Look(nn.Module):
    """Images (B, C, H, W) -> (B, n), by blocks that normalise nothing: style encoder and discriminator."""

    def __init__(self, config: IMPAConfig, n: int):
        super().__init__()
        self.patch, widths = config.patch, config.widths
        channels = config.size[0] * config.patch**2
        blocks = (Block(a, b, 1 / 2, None) for a, b in pairwise(widths))
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1), *blocks, Block(widths[-1], widths[-1], 1 / 2, None)
        )
        self.head = nn.Linear(widths[-1], n)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.trunk(F.pixel_unshuffle(x, self.patch))).mean((2, 3)))


class Mapping(nn.Module):
    """F: style of a compound, (condition (B, D), z (B, Z)) -> (B, S)."""

    def __init__(self, config: IMPAConfig):
        super().__init__()
        inside = 4 * config.style
        self.layers = nn.Sequential(
            nn.Linear(config.condition_dim + config.noise, inside),
            nn.SiLU(),
            nn.Linear(inside, inside),
            nn.SiLU(),
            nn.Linear(inside, config.style),
        )

    def forward(self, condition: Tensor, z: Tensor) -> Tensor:
        return self.layers(torch.cat([condition, z], dim=1))


class IMPA(nn.Module):
    """Treated cells from controls, as `CellFlux` gives them, by one pass of G; also E, which only training asks."""

    def __init__(self, config: IMPAConfig):
        super().__init__()
        self.config = config
        self.generator, self.mapping = Generator(config), Mapping(config)
        self.style_encoder = Look(config, config.style)
        self.to(memory_format=torch.channels_last)  # a quarter faster on a CPU

    @torch.no_grad()
    def sample(self, x0: Tensor, condition: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """(x1, x0), (B, C, H, W) each, x1 clamped to [-1, 1]; z of each sample comes from its own seed, (B,) int64."""
        z = normal_like(x0.new_empty(len(x0), self.config.noise), seed)
        return self.generator(x0, self.mapping(condition, z)).clamp(-1, 1), x0

    def save_pretrained(self, folder: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write folder/model.safetensors and folder/config.json."""
        config = {"baseline": "impa", "network": asdict(self.config), "metadata": metadata or {}}
        save_weights(folder, self.state_dict(), config)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """What `save_pretrained` wrote, in eval mode on the CPU."""
        config, weights = load_weights(folder)
        model = cls(IMPAConfig(**config["network"]))
        load_state(model, weights, folder)
        return model.eval()


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the terms of the losses; those of StarGAN v2."""

    style: float = 1.0
    cycle: float = 1.0
    variety: float = 1.0  # falls to 0 over the training
    penalty: float = 1.0  # gamma


def discriminator_terms(
    discriminator: nn.Module, x1: Tensor, fake: Tensor, compound: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """The terms of L_D, (B,) each, whose sum it is: real x1 and generated images (B, C, H, W), compound (B,) ids."""
    x1 = x1.detach().requires_grad_()
    real = answer(discriminator, x1, compound)
    return {
        "discriminator": discriminator_loss(real, answer(discriminator, fake.detach(), compound)),
        "penalty": weights.penalty * gradient_penalty(real, x1),
    }


def generator_terms(
    model: IMPA,
    discriminator: nn.Module,
    x0: Tensor,
    condition: Tensor,
    compound: Tensor,
    z: tuple[Tensor, Tensor],
    weights: Weights,
) -> dict[str, Tensor]:
    """The terms of L_G, (B,) each, whose sum it is: controls x0, compounds, and two draws of noise (B, Z)."""
    G, E = model.generator, model.style_encoder
    style, other_style = (model.mapping(condition, noise) for noise in z)
    fake, other = G(x0, style), G(x0, other_style)
    return {
        "generator": generator_loss(answer(discriminator, fake, compound)),
        "style": weights.style * distance(style, E(fake)),
        "cycle": weights.cycle * distance(x0, G(fake, E(x0))),
        "variety": -weights.variety * distance(fake, other),
    }


def answer(discriminator: nn.Module, images: Tensor, compound: Tensor) -> Tensor:
    """What D says about these images under their compounds, (B,)."""
    return discriminator(images).gather(1, compound.unsqueeze(1)).squeeze(1).float()

"""U-Net for the velocity v(x_t, t, condition), with the architecture of CellFlux (arXiv:2502.09775).

B batch, C image channels, H, W pixels, D condition size, F feature channels, E embedding size, p patch.

Residual blocks with scale and shift from an embedding of (t, condition), and self-attention at chosen
resolutions (Dhariwal & Nichol, arXiv:2105.05233). Parameter names are those of the published checkpoints.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellenv.path import lift, velocity_to

MOST_LEVELS, MOST_BLOCKS, MOST_PIXELS = 12, 100, 16_384  # of a side of an image


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a `UNet`. The defaults are those of CellFlux on BBBC021: 56,201,219 parameters.

    Raises:
        ValueError: if H or W is not divisible by patch * 2^(levels - 1), predicts is neither "v" nor "x1", or a number
            is out of range.
    """

    size: tuple[int, int, int] = (3, 96, 96)  # C, H, W of the images
    condition_dim: int = 1024  # D
    width: int = 128  # base number of feature channels; the embedding has 4 times as many
    multipliers: tuple[int, ...] = (2, 2, 2)  # features / width per level; each further level halves H and W
    blocks: int = 4  # residual blocks per level
    attention: tuple[int, ...] = (2,)  # downsampling factors with self-attention
    dropout: float = 0.3
    patch: int = 1  # p: pixel-unshuffle before the network, pixel-shuffle after it
    predicts: Literal["v", "x1"] = "v"  # prediction target; x1 suits small networks

    def __post_init__(self) -> None:
        for name in ("size", "multipliers", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # lists from JSON
        counts = (*self.size, self.condition_dim, self.patch, *self.multipliers, *self.attention)
        if min(counts) < 1 or self.width < 2 or self.width % 2 or not 0 <= self.dropout < 1:
            raise ValueError(f"need sizes of at least 1, an even width and 0 <= dropout < 1; got {self}")
        if not (1 <= len(self.multipliers) <= MOST_LEVELS and 1 <= self.blocks <= MOST_BLOCKS):
            raise ValueError(f"need 1 to {MOST_LEVELS} multipliers, and 1 to {MOST_BLOCKS} blocks; got {self}"[:300])
        factor = self.patch * 2 ** (len(self.multipliers) - 1)
        if self.predicts not in ("v", "x1"):
            raise ValueError(f"predicts must be 'v' or 'x1'; got {self.predicts!r}")
        if len(self.size) != 3 or any(pixels % factor or pixels > MOST_PIXELS for pixels in self.size[1:]):
            raise ValueError(
                f"need size (C, H, W) with H and W divisible by {factor} and up to {MOST_PIXELS}; got {self.size}"
            )


PRESETS: dict[str, UNetConfig] = {
    "cellflux-bbbc021": UNetConfig(),
    "cellflux-rxrx1": UNetConfig(size=(6, 96, 96), condition_dim=200),
    "cellflux-jump": UNetConfig(size=(5, 96, 96), condition_dim=1224),
    "embedded": UNetConfig(
        condition_dim=64, width=16, multipliers=(2, 4, 6), blocks=1, attention=(4,), dropout=0, patch=4, predicts="x1"
    ),
}


class UNet(nn.Module):
    """U-Net: v = network(x_t, t, condition), shaped as x_t."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        channels, embed = config.size[0] * config.patch**2, 4 * config.width
        self.mol_embed_transform = nn.Linear(config.condition_dim, embed)
        self.time_embed = nn.Sequential(nn.Linear(config.width, embed), nn.SiLU(), nn.Linear(embed, embed))

        last, features = len(config.multipliers) - 1, config.width * config.multipliers[0]
        self.input_blocks = nn.ModuleList([EmbedSequential(nn.Conv2d(channels, features, 3, padding=1))])
        skips = [features]
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                self.input_blocks.append(self._block(level, features, config.width * multiplier))
                features = config.width * multiplier
                skips.append(features)
            if level < last:
                self.input_blocks.append(EmbedSequential(Downsample()))
                skips.append(features)

        self.middle_block = EmbedSequential(
            Residual(features, features, embed, config.dropout),
            Attention(features),
            Residual(features, features, embed, config.dropout),
        )

        self.output_blocks = nn.ModuleList()
        for level in range(last, -1, -1):
            for i in range(config.blocks + 1):
                block = self._block(level, features + skips.pop(), config.width * config.multipliers[level])
                features = config.width * config.multipliers[level]
                if level > 0 and i == config.blocks:
                    block.append(Upsample())
                self.output_blocks.append(block)
        last_conv = zero_module(nn.Conv2d(features, channels, 3, padding=1))
        self.out = nn.Sequential(group_norm(features), nn.SiLU(), last_conv)

    def _block(self, level: int, features_in: int, features_out: int) -> "EmbedSequential":
        """A residual block, followed by attention if the level has it."""
        block = EmbedSequential(Residual(features_in, features_out, 4 * self.config.width, self.config.dropout))
        if 2**level in self.config.attention:
            block.append(Attention(features_out))
        return block

    def level(self, level: int) -> list[nn.Module]:
        """The layers that work at H / (p 2^level) by W / (p 2^level), without the embeddings, which have no size.

        Raises:
            ValueError: the network has no such level.
        """
        levels, blocks = len(self.config.multipliers), self.config.blocks
        if not 0 <= level < levels:
            raise ValueError(f"need a level from 0 to {levels - 1}, got {level}")
        down, up = 1 + level * (blocks + 1), (levels - 1 - level) * (blocks + 1)  # first blocks of the level
        found = [*self.input_blocks[down : down + blocks], *self.output_blocks[up : up + blocks + 1]]
        if level == 0:
            found += [self.input_blocks[0], self.out]
        if level == levels - 1:
            found.append(self.middle_block)
        return found

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Velocity v (B, C, H, W) in the dtype of x_t. x_t (B, C, H, W), t (B,) in [0, 1], condition (B, D).

        keep: (B,) bool; False drops the condition of that sample, which gives the unconditional velocity.
        None keeps all; condition None drops all.
        """
        emb = self.time_embed(timestep_embedding(t, self.config.width))  # (B, E)
        if condition is not None:
            shift = self.mol_embed_transform(condition)  # (B, E)
            emb = emb + (shift if keep is None else torch.where(lift(keep, shift), shift, 0))
        h = F.pixel_unshuffle(x_t, self.config.patch)  # (B, C p^2, H/p, W/p)
        skips = []
        for block in self.input_blocks:
            h = block(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        out = F.pixel_shuffle(self.out(h), self.config.patch).to(x_t.dtype)  # (B, C, H, W)
        return velocity_to(out, x_t, t) if self.config.predicts == "x1" else out


class EmbedSequential(nn.Sequential):
    """Sequential that passes `emb` to residual layers."""

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            h = layer(h, emb) if isinstance(layer, Residual) else layer(h)
        return h


class Residual(nn.Module):
    """h + f(h, emb), f: GroupNorm, conv, GroupNorm with scale and shift from emb, conv. Initially f = 0."""

    def __init__(self, features_in: int, features_out: int, embed: int, dropout: float):
        super().__init__()
        self.in_layers = nn.Sequential(
            group_norm(features_in), nn.SiLU(), nn.Conv2d(features_in, features_out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed, 2 * features_out))
        self.out_layers = nn.Sequential(
            group_norm(features_out),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_module(nn.Conv2d(features_out, features_out, 3, padding=1)),
        )
        same = features_in == features_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(features_in, features_out, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)  # (B, F, 1, 1) each
        normalise, *rest = self.out_layers
        out = normalise(self.in_layers(h)) * (1 + scale) + shift
        for layer in rest:
            out = layer(out)
        return self.skip_connection(h) + out


class Attention(nn.Module):
    """Single-head self-attention over all pixels, h + proj(softmax(q k / sqrt(F)) v)."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = group_norm(features)
        self.qkv = nn.Conv1d(features, 3 * features, 1)
        self.proj_out = zero_module(nn.Conv1d(features, features, 1))

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(h).flatten(2)).transpose(1, 2).chunk(3, dim=2)  # (B, H W, F) each
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)  # (B, F, H W)
        return h + self.proj_out(out).reshape(h.shape)


class Downsample(nn.Module):
    """Halve the resolution: 2 x 2 mean."""

    def forward(self, h: Tensor) -> Tensor:
        return F.avg_pool2d(h, 2)


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour."""

    def forward(self, h: Tensor) -> Tensor:
        return F.interpolate(h, scale_factor=2, mode="nearest")


def timestep_embedding(t: Tensor, size: int) -> Tensor:
    """(cos, sin) of t w_i, w_i = 10000^(-i / (size/2)), (B,) -> (B, size); t is unscaled, as in CellFlux."""
    w = torch.exp(-math.log(10_000) * torch.arange(size // 2, dtype=t.dtype, device=t.device) / (size // 2))
    angle = t[:, None] * w  # (B, size / 2)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def group_norm(features: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or fewer, so that a group has at least four features."""
    most = min(32, max(1, features // 4))
    return nn.GroupNorm(max(n for n in range(1, most + 1) if features % n == 0), features)


def zero_module(layer: nn.Module) -> nn.Module:
    """Set all parameters of the layer to zero and return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer

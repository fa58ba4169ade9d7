"""Rewards of your own: a plain function of images, and one of masks.

    python examples/own_reward.py                  # score base images with the suite and both rewards, from Python
    cellfluxrl train nft --preset smoke --reward sharpness=examples/own_reward.py:sharpness:0.5
    cellfluxrl train nft --preset smoke --reward roundness=0 --reward coverage=examples/own_reward.py:coverage

The names of a function's parameters choose its inputs: images, nuclei, cells, moa, compound, x0. It returns one number
per image, higher is better, nan where an image cannot be scored. On the command line it is
NAME=FILE.py:FUNCTION:WEIGHT, and every command that scores images takes it. B batch, C channels, H, W pixels.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.command_line import parse

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class OwnRewardConfig:
    contexts: int = 16
    seed: int = 0


PRESETS = {"default": OwnRewardConfig(), "smoke": OwnRewardConfig(contexts=2)}


def sharpness(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, (B, C, H, W) -> (B,)."""
    return images.diff(dim=-1).abs().mean((1, 2, 3))


def coverage(cells: Tensor) -> Tensor:
    """Share of pixels inside cells, labels (B, H, W) -> (B,); nan without a cell."""
    share = (cells > 0).float().mean((1, 2))
    return share.where(share > 0, float("nan"))


def main(config: OwnRewardConfig) -> None:
    from torchrl.envs import TransformedEnv

    from cellenv import VirtualCellEnv, load_embedded
    from cellenv.generator import GeneratorPolicy
    from rewards import cellflux_rewards, custom_reward

    generator, cells = load_embedded("test")
    suite = cellflux_rewards(extra=[custom_reward(sharpness, weight=0.5), coverage])  # a function alone has weight 1
    env = TransformedEnv(VirtualCellEnv(cells, batch_size=config.contexts, seed=config.seed), suite)
    scored = env.rollout(1, policy=GeneratorPolicy(generator))["next"]
    for name, values in scored["rewards"].items():
        print(f"{name:14s} {values.nanmean():7.3f}")
    print(f"{'reward':14s} {scored['reward'].nanmean():7.3f}")  # the weighted sum, from which algorithms learn


if __name__ == "__main__":
    CONFIG, DRY_RUN = parse(PRESETS, __doc__, sys.argv[1:])
    print(CONFIG) if DRY_RUN else main(CONFIG)

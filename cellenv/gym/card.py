"""Rendered frames of a scene: text, and the image with outlines of nuclei and cells.

B batch, C, H, W image.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from cellenv.gym.world import World
from cellenv.pictures import Picture, composite, enlarge, grid, label_margin, outlines

ZOOM = 4
WIDEST = -8.88e88  # as wide as a reward may be printed


class Card:
    """Text and picture of scenes of a world; all pictures have one size.

    The text is the compound, its mechanism and, once the scene was scored, every reward.
    """

    def __init__(self, world: World):
        self.world = world

    @cached_property
    def margin(self) -> int:
        """Width of the text in px: that of the longest compound or reward."""
        data = self.world.data
        moas = data.moa_names(torch.arange(len(data.compounds)))
        lines = [_compound_line(*names) for names in zip(data.compounds, moas, strict=True)]
        lines += [_reward_line(name, WIDEST) for name in ("reward", *self.world.rewards)]
        return label_margin(lines, ZOOM * data.size[1])

    def text(self, info: Mapping[str, Any], outcome: TensorDict | None) -> list[str]:
        """Text of each of B scenes. info: from `scene_info`. outcome: from `Task.score`; None before."""
        texts = [[_compound_line(*names)] for names in zip(info["compound"], info["moa"], strict=True)]
        if outcome is not None:
            rewards = {"reward": outcome["reward"].cpu().numpy()} | info["rewards"]
            for i, lines in enumerate(texts):
                lines += [_reward_line(name, values[i]) for name, values in rewards.items()]
        return ["\n".join(lines) for lines in texts]

    def pictures(self, images: Tensor, texts: Sequence[str]) -> tuple[Picture, ...]:
        """Pictures (H', W', 3) uint8 of images (B, C, H, W): text on the left, image on the right."""
        channels, masks = self.world.data.channels, self.world.masks(images)
        if masks is None:
            pictures = enlarge(composite(images, channels), ZOOM)
        else:
            pictures = outlines(images, masks, channels, zoom=ZOOM)
        return tuple(
            grid([picture[None]], [text], margin=self.margin) for picture, text in zip(pictures, texts, strict=True)
        )


def _compound_line(compound: str, moa: str) -> str:
    return f"{compound} ({moa})"


def _reward_line(name: str, value: float) -> str:
    return f"{name} {value:.2e}" if abs(value) >= 10_000 else f"{name} {value:.2f}"

"""An image, outlines of its nuclei and cells, and its rewards in words. B batch, C channels, H, W pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensordict import TensorDict
from torch import Tensor

from cellenv.pictures import composite, enlarge, grid, outlines

ZOOM = 4


def text(info: dict[str, Any], outcome: TensorDict | None) -> list[str]:
    """A few lines for each of B scenes: compound, mechanism, and the rewards once there are any."""
    lines = [[f"{compound} ({moa})"] for compound, moa in zip(info["compound"], info["moa"], strict=True)]
    if outcome is not None:
        rewards = {"reward": outcome["reward"].cpu().numpy()} | info["rewards"]
        for i, of_scene in enumerate(lines):
            of_scene += [f"{name} {values[i]:.2f}" for name, values in rewards.items()]
    return ["\n".join(of_scene) for of_scene in lines]


def card(
    images: Tensor, masks: tuple[Tensor, Tensor] | None, words: Sequence[str], channels: Sequence[str]
) -> tuple[np.ndarray, ...]:
    """For each image (C, H, W) a picture (H', W', 3) uint8: its words, then itself, enlarged."""
    if masks is None:
        pictures = enlarge(composite(images, channels), ZOOM)
    else:
        pictures = outlines(images, masks, channels, zoom=ZOOM)
    return tuple(grid([picture[None]], [word]) for picture, word in zip(pictures, words, strict=True))

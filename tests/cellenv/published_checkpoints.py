"""Small networks with the published names, and their weights."""

import torch

from cellenv.networks import UNet, UNetConfig
from tests.cellenv.published_toys import published_shapes, random_weights

SMALL = UNetConfig(size=(3, 8, 8), condition_dim=5, width=64, blocks=1, dropout=0.3)
SHAPES = published_shapes(channels=3, condition=5, width=64, blocks=1)
RAW, MEANS = random_weights(SHAPES, 0), random_weights(SHAPES, 1)
FEW = {"size": (1, 4, 4), "condition_dim": 2, "width": 4, "multipliers": (1,), "blocks": 1, "attention": ()}


def few_weights():
    """The weights of a network that is written in no time."""
    return {name: torch.ones_like(value) for name, value in UNet(UNetConfig(**FEW)).state_dict().items()}

"""A cheap world: cells of noise, a generator that adds the mean of its condition, brightness as the reward."""

import torch
from torch import nn
from torchrl.envs import Compose

from cellenv.generator import CellFlux, Sampling
from cellenv.gym import World
from cellenv.networks import UNetConfig
from rewards.transforms import ImageReward, WeightedSum
from tests.cellenv.toy_cells import ToyCells


class Shift(nn.Module):
    """v = gain * mean of the condition, everywhere."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.2))

    def forward(self, x_t, t, condition):
        return (self.gain * condition.mean(1))[:, None, None, None].expand_as(x_t)


def toy_generator() -> CellFlux:
    data = ToyCells()
    config = UNetConfig(size=data.size, condition_dim=data.conditions.shape[1])
    return CellFlux(Shift(), config, Sampling(steps=2, solver="euler", noise_level=0.5))


def brightness(images):
    return images.flatten(1).mean(1)


def contrast(images, moa):
    return images.flatten(1).std(1) * (moa + 1)


def toy_suite(bright=brightness) -> Compose:
    rewards = ImageReward("bright", bright), ImageReward("contrast", contrast, ("action", "moa"))
    return Compose(*rewards, WeightedSum({"bright": 1.0, "contrast": 0.5}))


def toy_features(images):
    return images.mean((2, 3))


def toy_world(**changes) -> World:
    parts = {"generator": toy_generator(), "data": ToyCells(), "suite": toy_suite(), "features": toy_features}
    return World(**(parts | changes))

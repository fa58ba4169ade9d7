"""Steer the frozen generator with four knobs, having seen what it makes untouched. B batch, C, H, W image."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from tensordict import TensorDict
from torch import Tensor

from cellenv.generator import CellFlux
from cellenv.gym.task import Task
from cellenv.gym.world import CHUNK, World
from cellenv.path import lift
from cellenv.streams import normal_like, rng_at, seed_at

KNOBS = ("dose", "noise", "turn_1", "turn_2")


@torch.no_grad()
def steered(generator: CellFlux, contexts: TensorDict, knobs: Tensor) -> Tensor:
    """The image at the end of the flow from x0 + sigma (1 + noise / 2) n' under the condition c (1 + dose / 2).

    n' = cos f1 cos f2 n + sin f1 cos f2 m1 + sin f2 m2 with f = turn pi / 2, n the noise that an untouched generator
    starts from and m1, m2 two other draws: of unit variance wherever it is turned.
    knobs: (B, 4) in [-1, 1], named by KNOBS; all 0 is the untouched generator. Returns (B, C, H, W) in [-1, 1].
    """
    x0, condition = contexts["x0"], contexts["condition"]
    dose, noise, *turns = knobs.to(x0).unbind(1)
    n, m1, m2 = (normal_like(x0, seeds) for seeds in _streams(contexts["seed"]))
    f1, f2 = (lift(turn * torch.pi / 2, x0) for turn in turns)
    turned = f1.cos() * f2.cos() * n + f1.sin() * f2.cos() * m1 + f2.sin() * m2
    source = x0 + lift(generator.noise_level * (1 + noise / 2), x0) * turned
    return generator.flow(source, condition * (1 + dose.unsqueeze(1) / 2))


def _streams(seed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The seeds of n, m1 and m2, (B,) each."""
    other = [seed.new_tensor([seed_at(each, turn) for each in seed.tolist()]) for turn in (1, 2)]
    return seed, *other


class Steer(Task):
    """Observation: `condition`, `control`, and `draft`, the untouched generator's image. Action: KNOBS in [-1, 1]."""

    tries = 64  # random actions, the best of which is the oracle's

    def __init__(self, world: World | None = None, **options: Any):
        super().__init__(world, **options)
        self.observation_space["draft"] = self.view.space()
        self.action_space = spaces.Box(-1, 1, (len(KNOBS),), np.float32)

    def prepare(self, contexts: TensorDict) -> TensorDict:
        return contexts.copy().set("draft", self.world.generate(contexts))

    def observe(self, scene: TensorDict) -> dict:
        return super().observe(scene) | {"draft": self.view(scene["draft"])}

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        parts = zip(scene.to(self.world.device).split(CHUNK), actions.split(CHUNK), strict=True)
        return torch.cat([steered(self.world.generator, part, knobs) for part, knobs in parts])

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """The draft, and the best of 64 random actions, which depend on the context's seed alone."""
        streams = [rng_at(seed, self.tries) for seed in scene["seed"].tolist()]
        knobs = torch.stack([torch.rand(self.tries, len(KNOBS), generator=rng) * 2 - 1 for rng in streams])
        tried = [self.world.rate(scene, self.images(scene, each))["reward"] for each in knobs.unbind(1)]
        return self.world.rate(scene, scene["draft"])["reward"], torch.stack(tried).amax(0)

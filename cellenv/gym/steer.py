"""Steer: set condition strength and noise of the frozen generator after seeing K drafts and their rewards.

B batch, C, H, W image, R rewards.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import normalize

from cellenv.env import repeat_groups
from cellenv.generator import CellFlux
from cellenv.gym.task import Task
from cellenv.gym.world import CHUNK, World
from cellenv.path import lift
from cellenv.streams import normal_like, rng_at

SHARPNESS = 4.0  # of the pulls: 1 against -1 gives a weight ratio of e^8


@torch.no_grad()
def steer(generator: CellFlux, contexts: TensorDict, actions: Tensor) -> Tensor:
    """Generated images whose source noise is a mixture of the drafts' noises, (B, C, H, W) in [-1, 1].

    The flow starts from x0 + sigma (1 + noise / 2) n' under the condition c (1 + dose / 2), with
    n' = sum_k w_k n_k / |w|, w_k = exp(4 pull_k) and n_k the noise of draft k. n' has unit variance for any
    pulls; with all actions at 0 the image is one more sample of the untouched generator.

    actions: (B, 2 + K) in [-1, 1]: dose, noise, pull_1 .. pull_K.
    """
    x0, condition = contexts["x0"], contexts["condition"]
    dose, noise, pulls = actions.to(x0).tensor_split((1, 2), 1)
    k = pulls.shape[1]
    seeds = repeat_groups(contexts.select("seed"), k)["seed"].unflatten(0, (-1, k))
    weights = normalize((SHARPNESS * pulls).exp(), dim=1)
    mixed = torch.zeros_like(x0)
    for weight, seed in zip(weights.unbind(1), seeds.unbind(1), strict=True):
        mixed = mixed + lift(weight, x0) * normal_like(x0, seed)
    source = x0 + generator.noise_level * lift(1 + noise.squeeze(1) / 2, x0) * mixed
    return generator.flow(source, condition * (1 + dose / 2))


class Steer(Task):
    """Observation: `condition`, `control`, K `drafts` and their `rewards`. Action: dose, noise and K pulls.

    drafts: K images of the untouched generator. rewards: (K, R), in the order of `info["rewards"]`. Actions
    lie in [-1, 1], see `steer`. The drafts differ only in their noise, so that no index is better than
    another.

    Raises:
        ValueError: if drafts < 2.
    """

    tries = 8  # random actions, the best of which is the oracle

    def __init__(self, world: World | None = None, *, drafts: int = 4, **options: Any):
        super().__init__(world, **options)
        if drafts < 2:
            raise ValueError(f"need two drafts or more to pull to, got {drafts}")
        self.k = drafts
        self.observation_space["drafts"] = self.view.space(self.k)
        shape = self.k, len(self.world.rewards)
        self.observation_space["rewards"] = spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.action_space = spaces.Box(-1, 1, (2 + self.k,), np.float32)

    @property
    def name(self) -> str:
        return f"Steer(drafts={self.k})"

    def prepare(self, contexts: TensorDict) -> TensorDict:
        """Contexts with `drafts`, (B, K, C, H, W), and `rated`, their rewards [B, K]."""
        drafts = self.world.candidates(contexts, self.k)
        return contexts.copy().update({"drafts": drafts, "rated": self.world.rate_each(contexts, drafts)})

    def observe(self, scene: TensorDict) -> dict[str, NDArray[Any]]:
        rewards = [scene["rated", "rewards", name] for name in self.world.rewards]
        shown = {"drafts": self.view(scene["drafts"]), "rewards": torch.stack(rewards, 2).cpu().numpy()}
        return super().observe(scene) | shown

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        """The steered images, (B, C, H, W)."""
        parts = zip(scene.to(self.world.device).split(CHUNK), actions.split(CHUNK), strict=True)
        with self.world.autocast():
            return torch.cat([steer(self.world.generator, part, chunk) for part, chunk in parts])

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """Mean reward of the drafts, and maximum over 8 random actions, which depend on the seed alone."""
        streams = [rng_at(seed, self.tries) for seed in scene["seed"].tolist()]
        size = self.tries, 2 + self.k
        actions = torch.stack([torch.rand(size, generator=rng) * 2 - 1 for rng in streams])  # (B, tries, 2 + K)
        rewards = [self.world.rate(scene, self.images(scene, each))["reward"] for each in actions.unbind(1)]
        return scene["rated", "reward"].mean(1), torch.stack(rewards).amax(0)

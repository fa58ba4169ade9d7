"""Steer the frozen generator, having seen K of its drafts and their rewards. B batch, C, H, W image."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import normalize

from cellenv.env import repeat_groups
from cellenv.generator import CellFlux
from cellenv.gym.task import Task
from cellenv.gym.world import CHUNK, World
from cellenv.path import lift
from cellenv.streams import normal_like, rng_at

SHARPNESS = 4.0  # of the pulls: 1 against -1 is a weight of e^8 against 1


@torch.no_grad()
def steered(generator: CellFlux, contexts: TensorDict, knobs: Tensor) -> Tensor:
    """The image at the end of the flow from x0 + sigma (1 + noise / 2) n' under the condition c (1 + dose / 2).

    n' = sum_k w_k n_k / |w| with w_k = exp(4 pull_k) and n_k the noise of the k-th draft: of unit variance wherever it
    is pulled. With all knobs at 0 this is one more draw of the untouched generator.

    knobs: (B, 2 + K) in [-1, 1]: dose, noise, pull_1 .. pull_K. Returns (B, C, H, W) in [-1, 1].
    """
    x0, condition = contexts["x0"], contexts["condition"]
    dose, noise, pulls = knobs.to(x0).tensor_split((1, 2), 1)
    k = pulls.shape[1]
    seeds = repeat_groups(contexts, k)["seed"].unflatten(0, (-1, k))
    weights = normalize((SHARPNESS * pulls).exp(), dim=1)
    pulled = sum(lift(w, x0) * normal_like(x0, s) for w, s in zip(weights.unbind(1), seeds.unbind(1), strict=True))
    source = x0 + generator.noise_level * lift(1 + noise.squeeze(1) / 2, x0) * pulled
    return generator.flow(source, condition * (1 + dose / 2))


class Steer(Task):
    """Observation: `condition`, `control`, `drafts`, K images of the untouched generator, and their `rewards`, (K, R),
    each as in `info["rewards"]` and in that order. Action: dose, noise and K pulls, in [-1, 1].

    The drafts differ in their noise alone, so that no position is better than another.
    """

    tries = 64  # random actions, the best of which is the oracle's

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
        drafts = self.world.candidates(contexts, self.k)
        return contexts.copy().update({"drafts": drafts, "rated": self.world.rate_each(contexts, drafts)})

    def observe(self, scene: TensorDict) -> dict:
        rewards = [scene["rated", "rewards", name] for name in self.world.rewards]
        shown = {"drafts": self.view(scene["drafts"]), "rewards": torch.stack(rewards, 2).cpu().numpy()}
        return super().observe(scene) | shown

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        parts = zip(scene.to(self.world.device).split(CHUNK), actions.split(CHUNK), strict=True)
        with self.world.autocast():
            return torch.cat([steered(self.world.generator, part, knobs) for part, knobs in parts])

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """The mean of the drafts, and the best of 64 random actions, which depend on the context's seed alone."""
        streams = [rng_at(seed, self.tries) for seed in scene["seed"].tolist()]
        size = self.tries, *self.action_space.shape
        knobs = torch.stack([torch.rand(size, generator=rng) * 2 - 1 for rng in streams])
        tried = [self.world.rate(scene, self.images(scene, each))["reward"] for each in knobs.unbind(1)]
        return scene["rated", "reward"].mean(1), torch.stack(tried).amax(0)

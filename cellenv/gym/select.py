"""Choose one of K images that the generator drew. B batch, C, H, W image."""

from typing import Any

import torch
from gymnasium import spaces
from tensordict import TensorDict
from torch import Tensor

from cellenv.gym.task import Task
from cellenv.gym.world import World


class Select(Task):
    """Observation: `condition`, `control`, and `candidates`, K of them. Action: which one, 0 .. K - 1.

    The candidates differ in their noise alone, so that no position is better than another.
    """

    def __init__(self, world: World | None = None, *, candidates: int = 8, **options: Any):
        super().__init__(world, **options)
        if candidates < 2:
            raise ValueError(f"need two candidates or more to choose from, got {candidates}")
        self.k = candidates
        self.observation_space["candidates"] = self.view.space(self.k)
        self.action_space = spaces.Discrete(self.k)

    @property
    def name(self) -> str:
        return f"Select(candidates={self.k})"

    def prepare(self, contexts: TensorDict) -> TensorDict:
        return contexts.copy().set("candidates", self.world.candidates(contexts, self.k))

    def observe(self, scene: TensorDict) -> dict:
        return super().observe(scene) | {"candidates": self.view(scene["candidates"])}

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        return scene["candidates"][torch.arange(len(actions), device=actions.device), actions]

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """The mean of the candidates, and the best of them."""
        rewards = self.world.rate_each(scene, scene["candidates"])["reward"]
        return rewards.mean(1), rewards.amax(1)

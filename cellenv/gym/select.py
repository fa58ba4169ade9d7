"""Select: choose one of K images of the generator. B batch, C, H, W image."""

from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from cellenv.gym.task import Task
from cellenv.gym.world import World


class Select(Task):
    """Observation: `condition`, `control` and K `candidates`. Action: index of one, 0 .. K - 1.

    The candidates differ only in their noise, so that no index is better than another.

    Raises:
        ValueError: if candidates < 2.
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
        """Contexts with `candidates`, (B, K, C, H, W)."""
        return contexts.copy().set("candidates", self.world.candidates(contexts, self.k))

    def observe(self, scene: TensorDict) -> dict[str, NDArray[Any]]:
        return super().observe(scene) | {"candidates": self.view(scene["candidates"])}

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        """The chosen candidates, (B, C, H, W)."""
        return scene["candidates"][torch.arange(len(actions), device=actions.device), actions]

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """Mean and maximum of the rewards of the candidates, (B,) each."""
        rewards = self.world.rate_each(scene, scene["candidates"])["reward"]
        return rewards.mean(1), rewards.amax(1)

"""A task whose scenes are drawn beforehand: what is costly is drawn once, and all agents and seeds learn from it.

A stock keeps what an agent sees, and no image that it will not need again. n scenes, K candidates.
"""

from collections.abc import Sequence

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from cellenv.gym import Select, Task
from cellenv.gym.score import BATCH


class Stock(Task):
    """The task on n given contexts; a reset takes one of them at random."""

    def __init__(self, task: Task, contexts: TensorDict):
        self.task, self.world = task, task.world
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self.scenes = contexts.copy().set("row", torch.arange(len(contexts)))
        parts = tqdm(contexts.split(BATCH), desc=f"stock of {task.name}", leave=False)
        seen = [self._see(task.prepare(part)) for part in parts]
        self.seen = {key: np.concatenate([each[key] for each in seen]) for key in seen[0]}

    def _see(self, scene: TensorDict) -> dict[str, np.ndarray]:
        return self.task.observe(scene)

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def kind(self) -> str:
        """The name without options."""
        return type(self.task).__name__

    def draw(self, rngs: Sequence[np.random.Generator]) -> TensorDict:
        return self.scenes[torch.tensor([int(rng.integers(len(self.scenes))) for rng in rngs])]

    def observe(self, scene: TensorDict) -> dict[str, np.ndarray]:
        return {key: values[scene["row"].numpy()] for key, values in self.seen.items()}

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        return self.task.images(scene, actions)

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        return self.task.bounds(self.task.prepare(scene))


class SelectStock(Stock):
    """Of Select: every candidate is rated when it is drawn, and `judge` looks up its rewards, (n, K)."""

    def __init__(self, task: Select, contexts: TensorDict):
        super().__init__(task, contexts)
        self.rewards = torch.from_numpy(self.seen.pop("rewards"))

    def _see(self, scene: TensorDict) -> dict[str, np.ndarray]:
        rewards = self.world.rate_each(scene, scene["candidates"])["reward"]
        return self.task.observe(scene) | {"rewards": rewards.cpu().numpy()}

    def judge(self, scene: TensorDict, actions: np.ndarray) -> TensorDict:
        reward = self.rewards[scene["row"], torch.as_tensor(actions)]
        return TensorDict({"reward": reward}, batch_size=scene.batch_size)

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        rewards = self.rewards[scene["row"]]
        return rewards.mean(1), rewards.amax(1)

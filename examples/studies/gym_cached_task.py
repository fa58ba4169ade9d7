"""Tasks whose scenes are drawn and observed beforehand, so that all agents and seeds learn from the same costly draws.

Only what agents observe is kept, and images that are needed again. n scenes, K candidates.
"""

from collections.abc import Sequence

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from cellenv.gym import Select, Task
from cellenv.gym.score import BATCH


class CachedTask(Task):
    """A task on n given contexts; a reset takes one of them at random."""

    def __init__(self, task: Task, contexts: TensorDict):
        self.task, self.world = task, task.world
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self.scenes = contexts.copy().set("row", torch.arange(len(contexts)))
        batches = tqdm(contexts.split(BATCH), desc=f"scenes of {task.name}", leave=False)
        parts = [self._precompute(task.prepare(batch)) for batch in batches]
        self.observations = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _precompute(self, scene: TensorDict) -> dict[str, np.ndarray]:
        """Observations of prepared scenes."""
        return self.task.observe(scene)

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def kind(self) -> str:
        """Name of the task without its options."""
        return type(self.task).__name__

    def draw(self, rngs: Sequence[np.random.Generator]) -> TensorDict:
        return self.scenes[torch.tensor([int(rng.integers(len(self.scenes))) for rng in rngs])]

    def observe(self, scene: TensorDict) -> dict[str, np.ndarray]:
        return {key: values[scene["row"].numpy()] for key, values in self.observations.items()}

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        return self.task.images(scene, actions)

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        return self.task.bounds(self.task.prepare(scene))


class CachedSelect(CachedTask):
    """Select with the rewards of all candidates computed beforehand, (n, K), so that scoring is a lookup."""

    def __init__(self, task: Select, contexts: TensorDict):
        super().__init__(task, contexts)
        self.rewards = torch.from_numpy(self.observations.pop("rewards"))

    def _precompute(self, scene: TensorDict) -> dict[str, np.ndarray]:
        """Observations of prepared scenes, and the rewards of their candidates."""
        rewards = self.world.rate_each(scene, scene["candidates"])["reward"]
        return self.task.observe(scene) | {"rewards": rewards.cpu().numpy()}

    def score(self, scene: TensorDict, actions: np.ndarray) -> TensorDict:
        reward = self.rewards[scene["row"], torch.as_tensor(actions)]
        return TensorDict({"reward": reward}, batch_size=scene.batch_size)

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        rewards = self.rewards[scene["row"]]
        return rewards.mean(1), rewards.amax(1)

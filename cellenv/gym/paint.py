"""Paint: the action is the image. For scoring generators from elsewhere, not for learning from scratch."""

from typing import Any

import numpy as np
from gymnasium import spaces
from tensordict import TensorDict
from torch import Tensor

from cellenv.gym.task import Task
from cellenv.gym.world import World


class Paint(Task):
    """Observation: `condition` and `control`. Action: image of the treated cells, (C, H, W) in [-1, 1].

    The score has the 0 and 1 of Select with eight candidates; a better generator may exceed 1.
    """

    draws = 8

    def __init__(self, world: World | None = None, **options: Any):
        super().__init__(world, **options)
        self.action_space = spaces.Box(-1, 1, self.world.data.size, np.float32)

    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        """The actions themselves."""
        return actions

    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """Mean and maximum of the rewards of eight images of the generator, (B,) each."""
        rewards = self.world.rate_each(scene, self.world.candidates(scene, self.draws))["reward"]
        return rewards.mean(1), rewards.amax(1)

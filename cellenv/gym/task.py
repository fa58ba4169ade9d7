"""What a task is: a contextual bandit on a world, for a whole batch at once. B batch, C, H, W image, F features.

A scene is a TensorDict [B]: the contexts and what the task prepared for them. An episode is one scene, one action, the
rewards of one image, the end.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from gymnasium import Space, spaces
from tensordict import TensorDict
from torch import Tensor

from cellenv.gym.world import World


class Task(ABC):
    """Observations are Dicts: `condition`, the embedding of the compound, `control`, the untreated cells, and more.

    observation: "images" are uint8, 0..255 for [-1, 1]; "features" is what the world's frozen classifier sees, float32.
    """

    observation_space: spaces.Dict  # of one environment
    action_space: Space

    def __init__(self, world: World | None = None, *, observation: Literal["images", "features"] = "images"):
        if observation not in VIEWS:
            raise ValueError(f"observation must be one of {', '.join(VIEWS)}; got {observation!r}")
        self.world = World() if world is None else world
        self.view = VIEWS[observation](self.world)
        conditions = self.world.data.conditions.numpy()
        condition = spaces.Box(conditions.min(0), conditions.max(0), dtype=np.float32)
        self.observation_space = spaces.Dict({"condition": condition, "control": self.view.space()})

    @property
    def name(self) -> str:
        """What a score depends on: the task and the options that change it."""
        return type(self).__name__

    def draw(self, rngs: Sequence[np.random.Generator]) -> TensorDict:
        """A scene from each stream, [B]."""
        return self.prepare(self.world.draw(rngs))

    def prepare(self, contexts: TensorDict) -> TensorDict:
        """The scene of each context, [B]."""
        return contexts

    def observe(self, scene: TensorDict) -> dict[str, np.ndarray]:
        """What the agent sees of each scene, a batch of the observation space."""
        return {"condition": scene["condition"].cpu().numpy(), "control": self.view(scene["x0"])}

    def judge(self, scene: TensorDict, actions: np.ndarray) -> TensorDict:
        """`image`, `reward` and `rewards` of an action for each scene, [B]."""
        actions = checked(actions, self.action_space, len(scene))
        images = self.images(scene, torch.from_numpy(actions).to(self.world.device))
        return self.world.rate(scene, images).set("image", images)

    @abstractmethod
    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        """The image that each action asks for, (B, C, H, W)."""

    @abstractmethod
    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """Rewards of the untouched generator and of the oracle, (B,) each: 0 and 1 of the score."""


class Pixels:
    """(..., C, H, W) in [-1, 1] -> uint8."""

    def __init__(self, world: World):
        self.size = world.data.size

    def space(self, *lead: int) -> spaces.Box:
        return spaces.Box(0, 255, (*lead, *self.size), np.uint8)

    def __call__(self, images: Tensor) -> np.ndarray:
        return ((images + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


class Features:
    """(..., C, H, W) in [-1, 1] -> (..., F) float32."""

    def __init__(self, world: World):
        self.world = world
        self.n = world.features(torch.zeros(1, *world.data.size)).shape[1]

    def space(self, *lead: int) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (*lead, self.n), np.float32)

    def __call__(self, images: Tensor) -> np.ndarray:
        lead = images.shape[:-3]
        return self.world.features(images.flatten(0, -4)).reshape(*lead, self.n).cpu().numpy()


VIEWS = {"images": Pixels, "features": Features}


def checked(actions: np.ndarray, space: Space, n: int) -> np.ndarray:
    """n actions of this space, (n, ...), or an error that says what was needed."""
    actions = np.asarray(actions)
    whole = isinstance(space, spaces.Discrete)
    low, high = (space.start, space.start + space.n - 1) if whole else (space.low.min(), space.high.max())
    needed = f"need {n} of shape {space.shape}, {'integers' if whole else 'numbers'} in [{low}, {high}]"
    if actions.dtype.kind not in ("iu" if whole else "iuf") or actions.shape != (n, *space.shape):
        raise ValueError(f"actions: {needed}; got shape {actions.shape} of {actions.dtype}")
    if not ((actions >= low) & (actions <= high)).all():  # nan is neither
        raise ValueError(f"actions: {needed}; got values from {actions.min()} to {actions.max()}")
    return actions.astype(space.dtype)

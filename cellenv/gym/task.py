"""A task: a contextual bandit on a world, for a whole batch at once. B batch, C, H, W image, F features.

A scene is a TensorDict [B]: contexts and what the task prepared for them. An episode is one scene, one action
and the rewards of one image.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from cellenv.gym.world import World
from cellenv.images import to_uint8


class View(Protocol):
    """How images are observed."""

    def space(self, *lead: int) -> spaces.Box:
        """Space of images with these leading dimensions."""

    def __call__(self, images: Tensor) -> NDArray[Any]:
        """Observation of images (..., C, H, W) in [-1, 1]."""


class Pixels:
    """Images (..., C, H, W) in [-1, 1] as uint8 pixels."""

    def __init__(self, world: World):
        self.size = world.data.size

    def space(self, *lead: int) -> spaces.Box:
        """Space of images with these leading dimensions."""
        return spaces.Box(0, 255, (*lead, *self.size), np.uint8)

    def __call__(self, images: Tensor) -> NDArray[Any]:
        pixels: NDArray[Any] = to_uint8(images).cpu().numpy()
        return pixels


class Features:
    """Images (..., C, H, W) in [-1, 1] as features (..., F) float32 of the world's frozen network."""

    def __init__(self, world: World):
        self.world = world
        self.n = world.features(torch.zeros(1, *world.data.size)).shape[1]

    def space(self, *lead: int) -> spaces.Box:
        """Space of their features with these leading dimensions."""
        return spaces.Box(-np.inf, np.inf, (*lead, self.n), np.float32)

    def __call__(self, images: Tensor) -> NDArray[Any]:
        lead = images.shape[:-3]
        features: NDArray[Any] = self.world.features(images.flatten(0, -4)).reshape(*lead, self.n).cpu().numpy()
        return features


VIEWS: dict[str, type[Pixels] | type[Features]] = {"images": Pixels, "features": Features}


class Task(ABC):
    """A contextual bandit on a world. Subclasses say what is observed and which image an action produces.

    Observations are Dicts: `condition`, the embedding of the compound; `control`, untreated cells; and what the
    task adds.

    world: None builds the embedded world with these rewards.
    observation: "images" are uint8; "features" are those of the world's frozen classifier, float32.
    rewards: changes to the default suite of a new world, see `World`.

    Raises:
        ValueError: if observation is unknown, or both world and rewards are given.
    """

    observation_space: spaces.Dict  # of one environment
    action_space: Space[Any]

    def __init__(
        self,
        world: World | None = None,
        *,
        observation: Literal["images", "features"] = "images",
        rewards: Sequence[str] = (),
    ):
        if observation not in VIEWS:
            raise ValueError(f"observation must be one of {', '.join(VIEWS)}; got {observation!r}")
        if world is not None and rewards:
            raise ValueError(f"a world has its rewards already: give them to World; got rewards={tuple(rewards)}")
        self.world = World(rewards=rewards) if world is None else world
        self.view: View = VIEWS[observation](self.world)
        conditions = self.world.data.conditions.numpy()
        condition = spaces.Box(conditions.min(0), conditions.max(0), dtype=np.float32)
        self.observation_space = spaces.Dict({"condition": condition, "control": self.view.space()})

    @property
    def name(self) -> str:
        """The task and those of its options that its score depends on."""
        return type(self).__name__

    def draw(self, rngs: Sequence[np.random.Generator]) -> TensorDict:
        """One scene from each random stream, [B]."""
        return self.prepare(self.world.draw(rngs))

    def prepare(self, contexts: TensorDict) -> TensorDict:
        """Scenes of these contexts, [B]."""
        return contexts

    def observe(self, scene: TensorDict) -> dict[str, NDArray[Any]]:
        """Observations of the scenes, a batch of the observation space."""
        return {"condition": scene["condition"].cpu().numpy(), "control": self.view(scene["x0"])}

    def score(self, scene: TensorDict, actions: NDArray[Any]) -> TensorDict:
        """`image`, `reward` and `rewards` of one action per scene, [B].

        Raises:
            ValueError: unless there is one action of the action space per scene.
        """
        actions = validate_actions(actions, self.action_space, len(scene))
        images = self.images(scene, torch.from_numpy(actions).to(self.world.device))
        return self.world.rate(scene, images).set("image", images)

    @abstractmethod
    def images(self, scene: TensorDict, actions: Tensor) -> Tensor:
        """Images that the actions produce, (B, C, H, W)."""

    @abstractmethod
    def bounds(self, scene: TensorDict) -> tuple[Tensor, Tensor]:
        """Rewards of the untouched generator and of the oracle, (B,) each: 0 and 1 of the score."""


def validate_actions(actions: NDArray[Any], space: Space[Any], n: int) -> NDArray[Any]:
    """n actions of the space as an array (n, ...) of its dtype.

    Raises:
        ValueError: if number, shape, kind or range of the actions is wrong.
    """
    actions = np.asarray(actions)
    low: Any
    high: Any
    if isinstance(space, spaces.Discrete):
        kind, dtype_kinds, low, high = "integers", "iu", int(space.start), int(space.start + space.n - 1)
    elif isinstance(space, spaces.Box):
        kind, dtype_kinds, low, high = "numbers", "iuf", space.low, space.high
    else:
        raise ValueError(f"need an action space that is Discrete or Box; got {space}")
    shape = space.shape or ()
    by_place = np.min(low) != np.max(low) or np.min(high) != np.max(high)
    limits = f"[{np.min(low)}, {np.max(high)}]" + (", by place as low and high of the space say" if by_place else "")
    needed = f"need {n} of shape {shape}, {kind} in {limits}"
    if actions.dtype.kind not in dtype_kinds or actions.shape != (n, *shape):
        raise ValueError(f"actions: {needed}; got shape {actions.shape} of {actions.dtype}")
    if not ((actions >= low) & (actions <= high)).all():  # false for nan
        raise ValueError(f"actions: {needed}; got values from {actions.min()} to {actions.max()}")
    return actions.astype(space.dtype)

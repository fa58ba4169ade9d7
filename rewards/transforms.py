"""Rewards as TorchRL transforms: segment once, measure once, one reward per function, a weighted sum.

Transforms read the root of a step (action, x0, moa, ...) and write next to the new state:

    ("masks", "nuclei"), ("masks", "cells")   labels, (*B, H, W) int32; removed by `Discard`
    ("measures", NAME)                        one number per image, (*B,) float32; removed by `Discard`
    ("rewards", NAME), "reward"               (*B, 1) float32

Called on a plain TensorDict, they read and write that TensorDict. B is any batch shape, also an empty one;
functions see it flattened to one dimension. C channels, H, W pixels.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded
from torchrl.envs import Transform

from rewards.measures import MEASURES, measure
from rewards.reference import Reference
from rewards.segmentation.protocol import CHANNELS, Masks, Segmenter
from rewards.shaping import Shaping, clipped_square

NUCLEI, CELLS = ("masks", "nuclei"), ("masks", "cells")
TRANSIENT = ("masks", "measures")  # shared by the rewards of one step, then removed


class StepTransform(Transform, ABC):
    """A transform of a step, or of a plain TensorDict as if it were one. A reset passes through unchanged."""

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        """Apply the transform to a plain TensorDict, in place."""
        return self._step(td, td)

    def _call(self, next_td: TensorDictBase) -> TensorDictBase:
        return next_td

    @abstractmethod
    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        """Read from td, the root of the step, and write to next_td."""


class Segment(StepTransform):
    """Segment the generated image: writes ("masks", "nuclei") and ("masks", "cells").

    Args:
        segmenter: images (B, C, H, W) and channel names -> Masks. Images reach it detached.
        channels: names of the channels of the images, in order.
    """

    def __init__(self, segmenter: Segmenter, channels: Sequence[str] = CHANNELS):
        super().__init__(in_keys=["action"], out_keys=[NUCLEI, CELLS])
        self.segmenter, self.channels = segmenter, tuple(channels)

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        images = td["action"].detach()
        masks = self.segmenter(images.reshape(-1, *images.shape[-3:]), self.channels)  # (B, H, W) each
        for key, labels in zip(self.out_keys, (masks.nuclei, masks.cells), strict=True):
            next_td.set(key, labels.reshape(*td.batch_size, *labels.shape[1:]))
        return next_td

    def transform_output_spec(self, output_spec: Composite) -> Composite:
        """Add the masks, as large as x0; `transform_reward_spec` would not be given the spec of x0."""
        output_spec = output_spec.clone()
        size = output_spec["full_observation_spec", "x0"].shape[-2:]
        reward_spec = output_spec["full_reward_spec"]
        for key in self.out_keys:
            reward_spec[key] = Unbounded((*reward_spec.shape, *size), dtype=torch.int32, device=reward_spec.device)
        return output_spec


class Measure(StepTransform):
    """Measure the masks of this step: writes ("measures", NAME) for every name in `MEASURES`."""

    def __init__(self) -> None:
        super().__init__(in_keys=[NUCLEI, CELLS], out_keys=[("measures", name) for name in MEASURES])

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        labels = [next_td.get(key) for key in self.in_keys]
        if any(value is None for value in labels):
            raise ValueError("Measure needs masks, absent here; put Segment(segmenter) before it")
        masks = Masks(*(value.reshape(-1, *value.shape[-2:]) for value in labels))
        for name, value in measure(masks).items():
            next_td.set(("measures", name), value.reshape(td.batch_size))
        return next_td

    def transform_reward_spec(self, reward_spec: Composite) -> Composite:
        for key in self.out_keys:
            reward_spec[key] = Unbounded(reward_spec.shape, device=reward_spec.device)
        return reward_spec


class ImageReward(StepTransform):
    """("rewards", name) = function(*values of in_keys), one number per image, higher is better.

    Args:
        name: of the reward.
        function: takes one tensor per in_key, with one flat batch dimension B, and returns (B,); nan marks an
            image that cannot be scored. It is not called for an empty batch, and runs without autograd unless
            an input requires a gradient.
        in_keys: "action" is the generated image; masks and measures are those of this step; any other key
            ("x0", "moa", ...) is read from the context.

    Example:
        >>> from tensordict import TensorDict
        >>> brightness = ImageReward("brightness", lambda images: images.mean((1, 2, 3)))
        >>> td = brightness(TensorDict({"action": torch.zeros(2, 3, 96, 96)}, [2]))
        >>> td["rewards", "brightness"].tolist()
        [[0.0], [0.0]]
    """

    def __init__(self, name: str, function: Callable[..., Tensor], in_keys: Sequence[NestedKey] = ("action",)):
        super().__init__(in_keys=list(in_keys), out_keys=[("rewards", name)])
        self.name, self.function = name, function

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        batch = td.batch_size
        flat: list[Tensor] = []
        for key in self.in_keys:
            first = key if isinstance(key, str) else key[0]
            value = (next_td if first in TRANSIENT else td).get(key)
            if value is None:
                raise ValueError(f"reward {self.name!r} needs {key!r}, absent here{HINTS.get(first, '')}")
            flat.append(value.reshape(batch.numel(), *value.shape[len(batch) :]))
        reward = self._evaluate(flat) if batch.numel() else flat[0].new_zeros(0, dtype=torch.float32)
        return next_td.set(self.out_keys[0], reward.reshape(*batch, 1))

    def _evaluate(self, inputs: Sequence[Tensor]) -> Tensor:
        """The reward of each image of a batch that is not empty, (B,)."""
        wants_gradient = torch.is_grad_enabled() and any(value.requires_grad for value in inputs)
        with torch.set_grad_enabled(wants_gradient):
            reward: Any = self.function(*inputs)
        need = (len(inputs[0]),)
        if not isinstance(reward, Tensor):
            raise ValueError(f"reward {self.name!r}: need a tensor of shape {need}, got a {type(reward).__name__}")
        if reward.shape != need:
            raise ValueError(f"reward {self.name!r}: need a tensor of shape {need}, got {tuple(reward.shape)}")
        if len(reward) > 1 and reward.isnan().all():
            warnings.warn(f"reward {self.name!r} is nan for all images of a batch: nothing can be learned from it")
        return reward.float()

    def transform_reward_spec(self, reward_spec: Composite) -> Composite:
        reward_spec[self.out_keys[0]] = Unbounded((*reward_spec.shape, 1), device=reward_spec.device)
        return reward_spec


class ReferenceReward(ImageReward):
    """An image reward that compares measures with those of real images.

    Args:
        name: of the reward.
        function: takes one tensor per measure, the ids of the populations where the reference has several, and by
            keyword `reference` and `shaping`; returns (B,).
        measures: names of the measures.
        reference: statistics of real images.
        shaping: z -> reward, (B,) -> (B,).
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Tensor],
        measures: Sequence[str],
        reference: Reference,
        shaping: Shaping = clipped_square,
    ):
        in_keys: list[NestedKey] = [*(("measures", key) for key in measures), *reference.id_keys]
        super().__init__(name, partial(function, reference=reference, shaping=shaping), in_keys)
        self.reference = reference


HINTS = {
    "masks": "; put Segment(segmenter) before it",
    "measures": "; put Segment(segmenter) and Measure() before it",
    "moa": "; it comes from a column of the image table that names the mechanism of action (BBBC021: ANNOT)",
}


class WeightedSum(StepTransform):
    """reward = sum over names of weight * rewards[name]. A nan makes the sum of its image nan, and no other.

    Args:
        weights: name of the reward -> weight.
    """

    def __init__(self, weights: Mapping[str, float]):
        super().__init__(in_keys=[("rewards", name) for name in weights], out_keys=["reward"])
        self.weights = dict(weights)

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        rewards = next_td.get("rewards", {})
        if missing := [name for name in self.weights if name not in rewards.keys()]:
            raise ValueError(
                f"WeightedSum needs the rewards {', '.join(missing)}; there are {', '.join(rewards.keys())}"
            )
        return next_td.set("reward", sum(weight * rewards[name] for name, weight in self.weights.items()))  # (*B, 1)

    def transform_reward_spec(self, reward_spec: Composite) -> Composite:
        reward_spec["reward"] = Unbounded((*reward_spec.shape, 1), device=reward_spec.device)
        return reward_spec


class Discard(StepTransform):
    """Remove masks and measures, and their specs, once all rewards are computed.

    torchrl's ExcludeTransform would leave an empty "masks" behind, which batched environments refuse.
    """

    def __init__(self) -> None:
        super().__init__()

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        return next_td.exclude(*TRANSIENT, inplace=True)

    def transform_reward_spec(self, reward_spec: Composite) -> Composite:
        for key in TRANSIENT:
            if key in reward_spec.keys():
                del reward_spec[key]
        return reward_spec

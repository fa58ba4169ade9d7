"""What every reward shares: one segmentation per step, a function from images to numbers, a weighted sum.

A step reads the root (action, x0, moa, ...) and writes beside the next state: ("masks", "nuclei"), ("masks", "cells"),
("rewards", NAME) and "reward". Called on a plain TensorDict, a transform reads and writes the root.
B is any batch shape, also none; functions see it flat. C, H, W image.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded
from torchrl.envs import Transform

from rewards.segmentation.protocol import CHANNELS, Segmenter

NUCLEI, CELLS = ("masks", "nuclei"), ("masks", "cells")


class Segment(Transform):
    """Segment the generated image once, for all rewards behind: ("masks", "nuclei") and ("masks", "cells")."""

    def __init__(self, segmenter: Segmenter, channels: tuple[str, ...] = CHANNELS):
        super().__init__(in_keys=["action"], out_keys=[NUCLEI, CELLS])
        self.segmenter, self.channels = segmenter, channels

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        return self._step(td, td)

    def _call(self, next_td: TensorDictBase) -> TensorDictBase:
        return next_td

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        images = td["action"]
        masks = self.segmenter(images.reshape(-1, *images.shape[-3:]), self.channels)  # (B, H, W) each
        for key, labels in zip(self.out_keys, (masks.nuclei, masks.cells), strict=True):
            next_td.set(key, labels.reshape(*td.batch_size, *labels.shape[1:]))
        return next_td

    def transform_output_spec(self, output_spec: Composite) -> Composite:
        """Masks are as large as x0; asked of the specs, since a transform in a nested Compose has no parent."""
        output_spec = output_spec.clone()
        size = output_spec["full_observation_spec", "x0"].shape[-2:]
        reward_spec = output_spec["full_reward_spec"]
        for key in self.out_keys:
            reward_spec[key] = Unbounded((*reward_spec.shape, *size), dtype=torch.int32, device=reward_spec.device)
        return output_spec


class ImageReward(Transform):
    """("rewards", name) = function(*values of in_keys), one number per image, higher is better.

    function: takes tensors with one flat batch dimension, returns (B,); nan means that the image cannot be scored.
    in_keys: masks are those of this step, all else is what the policy saw and did: "action" is the image.
    """

    def __init__(self, name: str, function: Callable[..., Tensor], in_keys: Sequence[NestedKey] = ("action",)):
        super().__init__(in_keys=list(in_keys), out_keys=[("rewards", name)])
        self.function = function

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        return self._step(td, td)

    def _call(self, next_td: TensorDictBase) -> TensorDictBase:
        return next_td

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        values = [(next_td if key in (NUCLEI, CELLS) else td).get(key) for key in self.in_keys]
        for key, value in zip(self.in_keys, values, strict=True):
            if value is None:
                raise ValueError(f"reward {self.out_keys[0][1]!r} needs {key!r}, absent here{HINTS.get(key, '')}")
        batch = td.batch_size
        reward = self.function(*(value.reshape(batch.numel(), *value.shape[len(batch) :]) for value in values))
        if reward.shape != (batch.numel(),):
            raise ValueError(f"reward {self.out_keys[0][1]!r}: need {(batch.numel(),)}, got {tuple(reward.shape)}")
        return next_td.set(self.out_keys[0], reward.reshape(*batch, 1))

    def transform_reward_spec(self, reward_spec: Composite) -> Composite:
        reward_spec[self.out_keys[0]] = Unbounded((*reward_spec.shape, 1), device=reward_spec.device)
        return reward_spec


HINTS = dict.fromkeys((NUCLEI, CELLS), "; put Segment(segmenter) before it") | {
    "moa": "; it comes from a column of the image table that names the mechanism of action (BBBC021: ANNOT)"
}


class WeightedSum(Transform):
    """reward = sum over names of weight * rewards[name]. A nan makes that image's total nan, and no other's."""

    def __init__(self, weights: Mapping[str, float]):
        super().__init__(in_keys=[("rewards", name) for name in weights], out_keys=["reward"])
        self.weights = dict(weights)

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        return self._step(td, td)

    def _call(self, next_td: TensorDictBase) -> TensorDictBase:
        return next_td

    def _step(self, td: TensorDictBase, next_td: TensorDictBase) -> TensorDictBase:
        rewards = next_td.get("rewards", {})
        if missing := [name for name in self.weights if name not in rewards.keys()]:
            raise ValueError(
                f"WeightedSum needs the rewards {', '.join(missing)}; there are {', '.join(rewards.keys())}"
            )
        return next_td.set("reward", sum(weight * rewards[name] for name, weight in self.weights.items()))  # (B, 1)

    def transform_reward_spec(self, reward_spec: Composite) -> Composite:
        reward_spec["reward"] = Unbounded((*reward_spec.shape, 1), device=reward_spec.device)
        return reward_spec

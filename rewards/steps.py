"""The rewards of a batch one step at a time: the caller knows which of them fails or takes too long. B batch."""

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torchrl.envs import Compose

from rewards.transforms import TRANSIENT, ImageReward, Measure, Segment, WeightedSum


class RewardSteps:
    """The transform of a suite, taken apart: `begin`, then `run` or `skip` for each of `names` in order, then `finish`.

    Gives the same numbers as the transform in one go.

    Args:
        transform: of `cellflux_rewards`.
    """

    def __init__(self, transform: Compose):
        parts = list(transform)
        self.steps = {name_of(part): part for part in parts if isinstance(part, Segment | Measure | ImageReward)}
        (self.total,) = (part for part in parts if isinstance(part, WeightedSum))

    @property
    def names(self) -> tuple[str, ...]:
        """Steps in order: finding and measuring objects, as far as rewards need it, and the names of the rewards."""
        return tuple(self.steps)

    @property
    def inputs(self) -> set[NestedKey]:
        """Keys that the steps read from a batch: "action", and what the rewards need of the context."""
        return {key for step in self.steps.values() for key in step.in_keys if not is_transient(key)}

    def begin(self, td: TensorDictBase) -> None:
        """Take a batch, (B,), with the `inputs`."""
        self.td, self.scored = td, TensorDict(batch_size=td.batch_size)

    def run(self, name: str) -> None:
        """Take a step; one whose masks or measures were skipped is skipped too."""
        step = self.steps[name]
        if any(is_transient(key) and key not in self.scored.keys(True) for key in step.in_keys):
            self.skip(name)
        else:
            with torch.no_grad():
                step._step(self.td, self.scored)

    def skip(self, name: str) -> None:
        """Leave a step out; if it is a reward, it is nan for every image."""
        step = self.steps[name]
        if isinstance(step, ImageReward):
            self.scored.set(step.out_keys[0], torch.full((len(self.td), 1), torch.nan, device=self.td["action"].device))

    def finish(self) -> TensorDictBase:
        """("rewards", NAME) and "reward", (B, 1) each."""
        return self.total._step(self.scored, self.scored).exclude(*TRANSIENT)


def is_transient(key: NestedKey) -> bool:
    """Whether a key is that of a mask or measure."""
    return isinstance(key, tuple) and key[0] in TRANSIENT


def name_of(step: Segment | Measure | ImageReward) -> str:
    """What a step is called in messages; no reward can have one of the names with a blank."""
    if isinstance(step, ImageReward):
        return step.name
    return "segment images" if isinstance(step, Segment) else "measure masks"

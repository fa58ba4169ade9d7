"""Signals that must not help: what a run learns from them shows what the reward is worth.

Each is a function (rollout, iteration) -> reward to learn from, (B,), in place of `renoise.total_reward`. B samples.
"""

import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms.renoise import total_reward
from cellenv.streams import rng_at


def zero(rollout: TensorDict, iteration: int) -> Tensor:
    """No reward: nothing is learned, the weights stay."""
    return torch.zeros_like(total_reward(rollout, iteration))


def flipped(rollout: TensorDict, iteration: int) -> Tensor:
    """The reward with its sign turned: the model gets worse."""
    return -total_reward(rollout, iteration)


def shuffled(rollout: TensorDict, iteration: int, *, seed: int) -> Tensor:
    """The reward permuted inside each group: as much pull as before, to samples chosen by lot."""
    reward, group = total_reward(rollout, iteration), rollout["group"]
    out = reward.clone()
    for g in group.unique().tolist():
        (members,) = (group == g).nonzero(as_tuple=True)
        order = torch.randperm(len(members), generator=rng_at(seed, iteration, g, PERMUTATION))
        out[members] = reward[members[order.to(members.device)]]
    return out


PERMUTATION = 2**31 - 1  # ends the key of a stream that no row of a sample uses

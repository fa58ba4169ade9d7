"""Control rewards that must not help: a gain that survives them does not come from the reward.

Each wraps a `RewardFn`, (rollout, iteration) -> (B,), and is one itself. B samples.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from algorithms.advantages import RewardFn, total_reward
from cellenv.streams import rng_at

PERMUTATION_STREAM = 2**31 - 1  # last part of a stream's name that no training row uses


def zero_reward(rollout: TensorDictBase, iteration: int, *, reward_fn: RewardFn = total_reward) -> Tensor:
    """Zeros: nothing is learned and the weights stay."""
    return torch.zeros_like(reward_fn(rollout, iteration))


def flipped_reward(rollout: TensorDictBase, iteration: int, *, reward_fn: RewardFn = total_reward) -> Tensor:
    """Negated reward: the model gets worse."""
    return -reward_fn(rollout, iteration)


def shuffled_reward(
    rollout: TensorDictBase, iteration: int, *, seed: int, reward_fn: RewardFn = total_reward
) -> Tensor:
    """Reward permuted at random within each group: updates as large as the real ones, in random directions."""
    reward, group = reward_fn(rollout, iteration), rollout["group"]
    shuffled = reward.clone()
    for g in group.unique().tolist():
        (members,) = (group == g).nonzero(as_tuple=True)
        order = torch.randperm(len(members), generator=rng_at(seed, iteration, g, PERMUTATION_STREAM))
        shuffled[members] = reward[members[order.to(members.device)]]
    return shuffled

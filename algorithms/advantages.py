"""Group-normalised advantages of rewards, and the optimality probability of DiffusionNFT.

B samples, G groups. `group` (B,) int64 holds the group id of each sample; the order of samples does not matter. A nan
or infinite reward is left out of every statistic, and its sample has advantage 0.
"""

from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from torch import Tensor

EPSILON = 1e-4  # added to the scale, as in the published code
A_MAX = 5.0  # advantages are clipped to [-5, 5]

RewardFn = Callable[[TensorDictBase, int], Tensor]  # (rollout, iteration) -> reward to learn from, (B,)
Gather = Callable[[Tensor], Tensor]  # concatenates the values of all ranks, as `Accelerator.gather` does


def identity(x: Tensor) -> Tensor:
    """Return x: the `Gather` of a single process."""
    return x


def total_reward(rollout: TensorDictBase, iteration: int) -> Tensor:
    """Reward of the environment, (B,): the default `RewardFn`."""
    return rollout["next", "reward"].squeeze(-1)


def advantage(reward: Tensor, group: Tensor, scale: Tensor) -> Tensor:
    """A = (R - group mean) / (Z + 1e-4), (B,) float32; 0 where the reward is not finite.

    scale: Z, either () for the whole batch, from `batch_std`, or (B,), from `group_std`.
    """
    centred = reward.double() - group_mean(reward, group)
    return torch.where(reward.isfinite(), centred / (scale.double() + EPSILON), 0).float()


def optimality(advantage: Tensor) -> Tensor:
    """r = clip(1/2 + 1/2 clip(A, -5, 5) / 5, 0, 1), the probability that a sample is optimal, (B,)."""
    return (0.5 + 0.5 * advantage.clamp(-A_MAX, A_MAX) / A_MAX).clamp(0, 1)


def batch_std(reward: Tensor, gather: Gather = identity) -> Tensor:
    """Standard deviation Z of the finite rewards of all ranks, () float64; 0 if none is finite."""
    rewards = gather(reward).double()
    rewards = rewards[rewards.isfinite()]
    return rewards.std(correction=0) if len(rewards) else rewards.new_zeros(())


def group_std(reward: Tensor, group: Tensor) -> Tensor:
    """Standard deviation of the rewards in each sample's group, (B,) float64."""
    square = (reward.double() - group_mean(reward, group)).square()
    return group_mean(square, group).sqrt()


def group_mean(reward: Tensor, group: Tensor) -> Tensor:
    """Mean of the finite rewards in each sample's group, (B,) float64; 0 if none is finite.

    The float64 sum of equal float32 rewards is exact, so a group of equal rewards has variance 0 exactly.

    Raises:
        ValueError: reward and group are not both (B,).
    """
    if reward.ndim != 1 or reward.shape != group.shape:
        raise ValueError(f"need rewards and groups (B,); got {tuple(reward.shape)} and {tuple(group.shape)}")
    finite = reward.isfinite()
    ids, member = group.unique(return_inverse=True)
    total = reward.new_zeros(len(ids), dtype=torch.float64)
    total = total.index_add(0, member, torch.where(finite, reward, 0).double())
    count = torch.bincount(member, weights=finite.double(), minlength=len(ids))
    return (total / count.clamp(min=1))[member]


def frac_reward_zero_std(reward: Tensor, group: Tensor) -> Tensor:
    """Fraction of samples in groups of equal rewards, which give no gradient, () float32."""
    return (group_std(reward, group) == 0).float().mean()

"""From rewards to advantages inside a group, and to the optimality probability of DiffusionNFT.

B samples, G groups. `group` (B,) int64 names the group of a sample; the order of the samples does not matter. A reward
that is nan (or infinite) is left out of every statistic, and its sample gets advantage 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

EPSILON = 1e-4  # added to the scale, as in the published code
A_MAX = 5.0  # advantages are clipped to [-5, 5]


def advantage(reward: Tensor, group: Tensor, scale: Tensor) -> Tensor:
    """A = (R - mean of the group) / (Z + 1e-4), (B,) float32, 0 where the reward is no number.

    scale: Z, () one for the batch, from `batch_std`, or (B,), from `group_std`.
    """
    centred = reward.double() - group_mean(reward, group)
    return torch.where(reward.isfinite(), centred / (scale.double() + EPSILON), 0).float()


def optimality(advantage: Tensor) -> Tensor:
    """r = clip(1/2 + 1/2 clip(A, -5, 5) / 5, 0, 1), the probability that a sample is a good one, (B,)."""
    return (0.5 + 0.5 * advantage.clamp(-A_MAX, A_MAX) / A_MAX).clamp(0, 1)


def batch_std(reward: Tensor, gather: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Z, one standard deviation over the whole rollout batch, () float64; 0 when no reward is a number.

    gather: puts the rewards of all ranks in a row, for example `Accelerator.gather`.
    """
    rewards = gather(reward).double()
    rewards = rewards[rewards.isfinite()]
    return rewards.std(correction=0) if len(rewards) else rewards.new_zeros(())


def group_std(reward: Tensor, group: Tensor) -> Tensor:
    """The standard deviation inside the group of each sample, (B,) float64."""
    square = (reward.double() - group_mean(reward, group)).square()
    return group_mean(square, group).sqrt()


def group_mean(reward: Tensor, group: Tensor) -> Tensor:
    """The mean of the finite rewards in the group of each sample, (B,) float64; 0 where there are none.

    In float64 the sum of equal float32 rewards is exact, so that a group without variance has none.
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
    """The share of samples in groups whose rewards are all alike, which teach nothing, () float32."""
    return (group_std(reward, group) == 0).float().mean()

"""Group-normalised advantages of one reward or of several, and the optimality probability of DiffusionNFT.

B samples, G groups. `group` (B,) int64 holds the group id of each sample; the order of samples does not matter. A nan
or infinite reward is left out of every statistic, and its sample has advantage 0.
"""

from collections.abc import Callable, Iterable, Mapping

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


def normalised_rewards(
    rollout: TensorDictBase, iteration: int, *, weights: Mapping[str, float], gather: Gather = identity
) -> Tensor:
    """S = sum_k w_k (R_k - group mean) / Z_k, (B,) float64: each reward normalised by itself. A `RewardFn`.

    Z_k is the standard deviation of reward k inside its groups, over the rollout batch of all ranks: whatever its
    unit, a reward has the share of the signal that its weight gives it. Summed first and normalised afterwards
    (`total_reward`), a reward that varies little is drowned. A nan R_k is left out of the statistics of k and adds 0;
    S is nan where no reward is finite. A reward without variance inside its groups adds 0.

    Writes the terms to rollout["signal", NAME], (B,) each, from which the log takes their shares.
    Source: GDPO, arXiv:2601.05242. Departure: Z_k is that of the batch and not of a group, so that a group in which a
    reward hardly varies does not amplify its noise.

    Raises:
        ValueError: the rollout lacks a reward that has a weight.
    """
    rewards, group = check_rewards(rollout, weights), rollout["group"]
    terms = {name: w * within_group_score(rewards[name].squeeze(-1), group, gather) for name, w in weights.items()}
    rollout["signal"] = terms
    total = torch.stack(list(terms.values())).sum(0)  # (B,)
    known = torch.stack([rewards[name].squeeze(-1).isfinite() for name in weights]).any(0)
    return torch.where(known, total, torch.nan)


def check_rewards(rollout: TensorDictBase, names: Iterable[str]) -> Mapping[str, Tensor]:
    """Rewards of the rollout by name, (B, 1) each.

    Raises:
        ValueError: one of the names is missing.
    """
    rewards: Mapping[str, Tensor] = rollout["next"].get("rewards", {})
    if missing := [name for name in names if name not in rewards.keys()]:
        raise ValueError(
            f"need the rewards {', '.join(missing)}; the rollout has {', '.join(rewards.keys()) or 'none'}"
        )
    return rewards


def within_group_score(reward: Tensor, group: Tensor, gather: Gather = identity) -> Tensor:
    """(R - group mean) / Z with Z the within-group standard deviation of all ranks, (B,) float64; 0 where R is nan.

    Z has a floor of 1e-4 times the root mean square of R, below which a difference is rounding, and is 1 if all is 0.
    """
    finite = reward.isfinite()
    centred = torch.where(finite, reward.double() - group_mean(reward, group), 0)
    count, square, size = (
        gather(value.sum()[None]).sum()
        for value in (finite.double(), centred.square(), torch.where(finite, reward, 0).double().square())
    )
    count = count.clamp(min=1)
    scale = torch.maximum((square / count).sqrt(), 1e-4 * (size / count).sqrt())
    return centred / torch.where(scale > 0, scale, 1)


def signal_shares(rollout: TensorDictBase, gather: Gather = identity) -> dict[str, float]:
    """Share of each term in the variance of the learning signal, cov(s_k, S) / var(S); they sum to 1.

    Empty if the signal is not a sum of normalised rewards; 0 each if it does not vary.
    """
    terms = rollout.get("signal", None)
    if terms is None:
        return {}
    total = sum(terms.values())
    variance = gather(total.square().sum()[None]).sum()
    return {
        name: (gather((term * total).sum()[None]).sum() / variance).nan_to_num().item() for name, term in terms.items()
    }


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

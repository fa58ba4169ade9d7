"""Normalised returns: running mean and deviation of rewards, over all images or of each compound.

An episode has one reward, so the return is the reward. B samples of one rank, K rewards, n ids (compounds).
"""

from collections.abc import Mapping

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from algorithms.advantages import EPSILON, Gather, check_rewards, identity, total_reward


class RunningMoments(nn.Module):
    """Mean and variance of K values for each of n ids, (n, K) float64, over about the last `memory` values of an id.

    With compounds as ids, DDPO's per-prompt statistics (arXiv:2305.13301, section 4.3). Departure: older values fade
    out, where DDPO keeps a queue. The buffers are part of a checkpoint.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, ids: int, values: int, *, memory: float):
        super().__init__()
        if memory <= 0:
            raise ValueError(f"need memory > 0 values, got {memory}")
        self.memory = memory
        for name in ("count", "mean", "variance"):
            self.register_buffer(name, torch.zeros(ids, values, dtype=torch.float64))

    @torch.no_grad()
    def update(self, values: Tensor, ids: Tensor) -> None:
        """Merge in values (B, K) of ids (B,) int64; each is left out where it is not finite.

        The new mean is (1 - w) mean + w mean', the new variance (1 - w) variance + w variance' + w (1 - w) (mean' -
        mean)^2, with mean', variance' of N new values and w = N / (N + min(count, memory)), as in Chan et al., 1983.
        """
        is_id = ids == torch.arange(len(self.count), device=ids.device)[:, None]  # (n, B)
        member = is_id[..., None] & values.isfinite()  # (n, B, K)
        x = torch.where(member, values.double(), 0)
        N = member.sum(1)  # (n, K)
        mean = x.sum(1) / N.clamp(min=1)
        variance = torch.where(member, x - mean[:, None], 0).square().sum(1) / N.clamp(min=1)
        w = N / (N + self.count).clamp(min=1)
        self.variance.copy_((1 - w) * self.variance + w * variance + w * (1 - w) * (mean - self.mean).square())
        self.mean.copy_((1 - w) * self.mean + w * mean)
        self.count.copy_((self.count + N).clamp(max=self.memory))

    def standardize(self, values: Tensor, ids: Tensor) -> Tensor:
        """(x - mean) / (deviation + 1e-4) with the moments of each sample's id, (B, K) float64."""
        return (values.double() - self.mean[ids]) / (self.variance[ids].sqrt() + EPSILON)


class NormalisedReturns(nn.Module):
    """R' = sum_k w_k z_k / sqrt(sum_k w_k^2), z_k = (R_k - mean_k) / deviation_k, (B,) float64. A `RewardFn`.

    The running moments have seen the rollout, as in DDPO. A call updates them, so an iteration makes one. Where R_k is
    not finite, z_k = 0; R' is nan where no reward is finite. Unlike `normalised_rewards` it subtracts no group mean:
    what the moments leave is the critic's to predict.

    weights: w_k by reward; empty for the total reward alone. compounds: number of compounds, each with moments of its
    own (rollout["perturbation"]); None: all images share them. memory: of `RunningMoments`. Given weights, a call
    writes the terms to rollout["signal", NAME], as `normalised_rewards` does.

    Raises:
        ValueError: memory <= 0; in a call, the rollout lacks a reward that has a weight.
    """

    def __init__(
        self, weights: Mapping[str, float], *, compounds: int | None, memory: float, gather: Gather = identity
    ):
        super().__init__()
        self.weights, self.per_compound, self.gather = dict(weights), compounds is not None, gather
        self.moments = RunningMoments(compounds or 1, len(weights) or 1, memory=memory)

    @torch.no_grad()
    def forward(self, rollout: TensorDictBase, iteration: int) -> Tensor:
        """R' of this rank's samples; the moments are of all ranks."""
        rewards = self._rewards(rollout, iteration)  # (B, K)
        compound = rollout["perturbation"]
        ids = compound if self.per_compound else torch.zeros_like(compound)
        self.moments.update(self.gather(rewards), self.gather(ids))
        w = torch.tensor([*self.weights.values()] or [1.0], dtype=torch.float64, device=rewards.device)
        finite = rewards.isfinite()
        terms = torch.where(finite, w / w.norm() * self.moments.standardize(rewards, ids), 0)  # (B, K)
        if self.weights:
            rollout["signal"] = dict(zip(self.weights, terms.unbind(1), strict=True))
        return torch.where(finite.any(1), terms.sum(1), torch.nan)

    def _rewards(self, rollout: TensorDictBase, iteration: int) -> Tensor:
        """The K rewards that are normalised, (B, K)."""
        if not self.weights:
            return total_reward(rollout, iteration)[:, None]
        rewards = check_rewards(rollout, self.weights)
        return torch.stack([rewards[name].squeeze(-1) for name in self.weights], 1)

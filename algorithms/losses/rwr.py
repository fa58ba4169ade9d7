"""Reward-weighted regression (RWR, Peters and Schaal, ICML 2007): flow matching, each sample weighted by exp(A / tau).

The best velocity is that of the old policy tilted, p_old exp(A / tau); no sample is pushed away.
B batch or samples, K times per sample, C channels, H, W pixels.
"""

from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms.advantages import advantage, batch_std, group_mean
from algorithms.losses.matching import MatchingLoss, at_least_fp32, flow_matching
from algorithms.renoise import Renoise


def rwr_loss(v_theta: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """w |v_theta - v|^2, mean over C, H, W: (B, C, H, W) twice and weights (B,) >= 0 -> (B,)."""
    return at_least_fp32(weight)[0] * flow_matching(v_theta, v)


def rwr_weights(A: Tensor, group: Tensor, *, temperature: float) -> Tensor:
    """w = exp(A / tau) / mean of exp(A / tau) over the group, (B,) float32; 0 where A is nan, which no mean counts.

    A, group: (B,). tau -> inf is flow matching on all samples, tau -> 0 on the best of each group.
    Departure: the paper has no groups; the mean of a group estimates the normaliser of its context.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    ids, member = group.unique(return_inverse=True)
    best = A.new_full((len(ids),), -torch.inf).scatter_reduce(0, member, A.nan_to_num(-torch.inf), "amax")
    e = ((A - best[member]).double() / temperature).exp()  # in (0, 1]: nothing overflows
    return (e / group_mean(e, group)).nan_to_num(0).float()


@dataclass(frozen=True, kw_only=True)
class Weigh:
    """Call it with a rollout and the iteration: the rows of `renoise`, and `weight`, the same for all K of a sample."""

    renoise: Renoise
    temperature: float  # tau, in standard deviations of the reward

    def __call__(self, rollout: TensorDict, iteration: int) -> TensorDict:
        reward, group = self.renoise.signal(rollout, iteration), rollout["group"]
        A = advantage(reward, group, batch_std(reward, self.renoise.gather))
        A = A.where(reward.isfinite(), torch.nan)  # (B,)
        weight = rwr_weights(A, group, temperature=self.temperature)
        rows = self.renoise(rollout, iteration)
        return rows.set("weight", weight.repeat_interleave(self.renoise.times_per_sample))


class RWRLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, weight, condition; writes loss_rwr, and loss_kl and kl of `MatchingLoss`."""

    in_keys = ["x0", "x1", "t", "weight", "condition"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_rwr", "loss_kl", "kl"]  # noqa: RUF012

    def forward(self, tensordict: TensorDict) -> TensorDict:
        match = self.match(tensordict)
        loss = rwr_loss(match.v_theta, match.v, tensordict["weight"]).mean()
        return TensorDict({"loss_rwr": loss, **self.pull(match, tensordict)})

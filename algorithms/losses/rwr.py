"""Reward-weighted regression (RWR, Peters and Schaal, ICML 2007): flow matching, each sample weighted by exp(A / tau).

The optimum is the velocity of the tilted old policy, p_old exp(A / tau); no sample gets a negative weight.
B batch or samples, K times per sample, C channels, H, W pixels.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from algorithms.advantages import advantage, batch_std, group_mean
from algorithms.losses.matching import MatchingLoss, at_least_fp32, flow_matching
from algorithms.renoise import Renoise


def rwr_loss(v_theta: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """w |v_theta - v|^2, mean over C, H, W: (B, C, H, W) twice and weights (B,) >= 0 -> (B,)."""
    return at_least_fp32(weight)[0] * flow_matching(v_theta, v)


def rwr_weights(A: Tensor, group: Tensor, *, temperature: float) -> Tensor:
    """w = exp(A / tau) / mean of exp(A / tau) over the group, (B,) float32; where A is nan, 0 and not in the mean.

    A, group: (B,). tau -> inf is flow matching on all samples, tau -> 0 on the best of each group.
    Departure: the paper has no groups; the group mean estimates the normaliser of the group's context.

    Raises:
        ValueError: temperature <= 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    ids, member = group.unique(return_inverse=True)
    best = A.new_full((len(ids),), -torch.inf).scatter_reduce(0, member, A.nan_to_num(-torch.inf), "amax")
    e = ((A - best[member]).double() / temperature).exp()  # in (0, 1], so it cannot overflow
    return (e / group_mean(e, group)).nan_to_num(0).float()


def build_rwr_batch(rollout: TensorDictBase, iteration: int, *, renoise: Renoise, temperature: float) -> TensorDictBase:
    """Rows of `renoise`, with `weight` (n,), equal for all K rows of a sample; the batch of `RWRLoss`.

    temperature: tau, in standard deviations of the reward.
    """
    rollout, reward = renoise.select(rollout, iteration)
    group = rollout["group"]
    A = advantage(reward, group, batch_std(reward, renoise.gather))
    A = A.where(reward.isfinite(), torch.nan)  # (B,)
    weight = rwr_weights(A, group, temperature=temperature)
    return renoise.rows(rollout, reward, iteration).set("weight", weight.repeat_interleave(renoise.times_per_sample))


class RWRLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, weight, condition, row; writes loss_rwr, and loss_kl and kl of `MatchingLoss`.

    loss_rwr is the mean of omega(t) times `rwr_loss`.
    """

    in_keys = ["x0", "x1", "t", "weight", "condition", "row"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_rwr", "loss_kl", "kl", "norm_ratio"]  # noqa: RUF012

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        inputs = self.regression_inputs(tensordict)
        loss = inputs.omega * rwr_loss(inputs.v_theta, inputs.v, tensordict["weight"])
        return TensorDict({"loss_rwr": loss.mean(), **self.kl_penalty(inputs, tensordict)})

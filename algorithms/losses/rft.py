"""Rejection fine-tuning (RFT): flow matching on the best k samples of each group.

B batch or samples, G groups, K times per sample, C channels, H, W pixels.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from algorithms.downsampling import rank_in_group
from algorithms.losses.matching import MatchingLoss, flow_matching
from algorithms.renoise import Renoise


def rft_loss(v_theta: Tensor, v: Tensor, scored: Tensor) -> Tensor:
    """|v_theta - v|^2, mean over C, H, W; 0 where not scored: (B, C, H, W) twice and (B,) bool -> (B,)."""
    return torch.where(scored, flow_matching(v_theta, v), 0)


def best_rows(reward: Tensor, group: Tensor, *, keep: int) -> Tensor:
    """Row indices of the `keep` highest rewards of each group, (G keep,) int64, ascending; reward, group: (B,).

    Rewards that are not finite rank last; ties go to the earlier row.

    Raises:
        ValueError: keep is not between 1 and the size of the smallest group.
    """
    _, member, size = group.unique(return_inverse=True, return_counts=True)
    if not 0 < keep <= size.min():
        raise ValueError(f"need 1 <= keep <= {size.min().item()}, the samples of a group; got {keep}")
    return (rank_in_group(-reward, member) < keep).nonzero().squeeze(1)


def build_rft_batch(rollout: TensorDictBase, iteration: int, *, renoise: Renoise, keep: int) -> TensorDictBase:
    """Rows of `renoise` for the `keep` best samples of each group, with `scored` (n,) bool; the batch of `RFTLoss`.

    Every group contributes `keep` samples; those without a finite reward, if too few have one, are not scored.
    """
    reward = renoise.reward_fn(rollout, iteration)
    kept = best_rows(reward, rollout["group"], keep=keep)
    scored = reward[kept].isfinite().repeat_interleave(renoise.times_per_sample)
    return renoise.rows(rollout[kept], reward[kept], iteration).set("scored", scored)


class RFTLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, scored, condition, row; writes loss_rft, and loss_kl and kl of `MatchingLoss`.

    loss_rft is the mean of omega(t) times `rft_loss`.
    """

    in_keys = ["x0", "x1", "t", "scored", "condition", "row"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_rft", "loss_kl", "kl", "norm_ratio"]  # noqa: RUF012

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        inputs = self.regression_inputs(tensordict)
        loss = inputs.omega * rft_loss(inputs.v_theta, inputs.v, tensordict["scored"])
        return TensorDict({"loss_rft": loss.mean(), **self.kl_penalty(inputs, tensordict)})

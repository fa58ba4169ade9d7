"""Rejection fine-tuning (RFT): keep the best k of each group, then flow matching on them alone.

B batch or samples, G groups, K times per sample, C channels, H, W pixels.
"""

from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms.losses.matching import MatchingLoss, flow_matching
from algorithms.renoise import Renoise


def rft_loss(v_theta: Tensor, v: Tensor, scored: Tensor) -> Tensor:
    """|v_theta - v|^2, mean over C, H, W; 0 where not scored: (B, C, H, W) twice and (B,) bool -> (B,)."""
    return torch.where(scored, flow_matching(v_theta, v), 0)


def best_rows(reward: Tensor, group: Tensor, *, keep: int) -> Tensor:
    """Rows of the `keep` highest rewards of each group, (G keep,) int64, ascending; reward, group: (B,).

    What is no number comes last; of equals the earlier row is kept.
    """
    size = torch.unique(group, return_counts=True)[1]  # (G,)
    if not 0 < keep <= size.min():
        raise ValueError(f"need 1 <= keep <= {size.min().item()}, the samples of a group; got {keep}")
    order = torch.argsort(reward.where(reward.isfinite(), -torch.inf), descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]  # group after group, in each the best first
    place = torch.cat([torch.arange(n, device=group.device) for n in size.tolist()])  # in the group, (B,)
    return order[place < keep].sort().values


@dataclass(frozen=True, kw_only=True)
class KeepBest:
    """Call it with a rollout and the iteration: the rows of `renoise` for the best of each group, and `scored`.

    Every group gives `keep` samples; one without a reward, where too few have one, is not `scored`.
    """

    renoise: Renoise
    keep: int  # of each group

    def __call__(self, rollout: TensorDict, iteration: int) -> TensorDict:
        reward = self.renoise.signal(rollout, iteration)
        kept = best_rows(reward, rollout["group"], keep=self.keep)
        scored = reward[kept].isfinite().repeat_interleave(self.renoise.times_per_sample)
        return self.renoise(rollout[kept], iteration).set("scored", scored)


class RFTLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, scored, condition; writes loss_rft, and loss_kl and kl of `MatchingLoss`."""

    in_keys = ["x0", "x1", "t", "scored", "condition"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_rft", "loss_kl", "kl"]  # noqa: RUF012

    def forward(self, tensordict: TensorDict) -> TensorDict:
        match = self.match(tensordict)
        loss = rft_loss(match.v_theta, match.v, tensordict["scored"]).mean()
        return TensorDict({"loss_rft": loss, **self.pull(match, tensordict)})

"""Flow advantage-weighted rectification (FlowAWR, arXiv:2606.30376): a step along v - v_old as long as the advantage.

In our direction of time x_t = (1 - t) x0' + t x1 and v = x1 - x0', with x0' the source that re-noises the sample x1.
B batch, C channels, H, W pixels.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from algorithms.losses.matching import MatchingLoss, at_least_fp32, flow_matching, scaled_square
from cellenv.path import lift

E_MAX = 3.0  # largest advantage: the target lies at most so many corrections from the old velocity


def flowawr_loss(v_theta: Tensor, v_old: Tensor, v: Tensor, t: Tensor, A: Tensor) -> Tensor:
    """mean(e^2) / max(mean|d|, 1e-5), with e = (1 - t) (v_theta - v_old - E (v - v_old)) and d = (1 - t) (v - v_old).

    v_theta, v_old, v: (B, C, H, W). t: (B,) in [0, 1]. A: (B,); E is A clipped to [-3, 3]. Returns (B,).
    The gradient is 0 at v_theta = v_old + E (v - v_old); on policy it is that of `nft_loss_adaptive` at 10 r - 5 = E.
    Source: the paper's regression target, in the adaptive norm of DiffusionNFT. Departures: the paper's advantage is
    G softmax(R / gamma) - 1. The norm divides by mean|d|: by mean|e|, only the sign of E would count on policy.
    """
    v_theta, v_old, v, t, A = at_least_fp32(v_theta, v_old.detach(), v, t, A)
    E, remaining = lift(A.clamp(-E_MAX, E_MAX), v), lift(1 - t, v)  # (B, 1, 1, 1)
    target = v_old + E * (v - v_old)
    return scaled_square(remaining * (v_theta - target), remaining * (v - v_old))


class FlowAWRLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, advantage, condition, row; writes loss_flowawr, loss_kl and metrics.

    kl and norm_ratio: see `MatchingLoss`. drift = mean((v_theta - v_old)^2).
    """

    in_keys = ["x0", "x1", "t", "advantage", "condition", "row"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_flowawr", "loss_kl", "kl", "norm_ratio", "drift"]  # noqa: RUF012

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        inputs = self.regression_inputs(tensordict)
        x_t, t, v_theta, v, _ = inputs
        with torch.no_grad():
            v_old = self.model_old(x_t, t, tensordict["condition"])
        return TensorDict(
            {
                "loss_flowawr": flowawr_loss(v_theta, v_old, v, t, tensordict["advantage"]).mean(),
                **self.kl_penalty(inputs, tensordict),
                "drift": flow_matching(v_theta.detach(), v_old).mean(),
            }
        )

"""Reinforce Adjoint Matching (RAM, arXiv:2605.10759): the pretrained velocity, corrected by the reward, as target.

In our direction of time x_t = (1 - t) x0' + t x1 and v = x1 - x0', with x0' the source that re-noises the sample x1.
B batch, C channels, H, W pixels.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from algorithms.advantages import A_MAX
from algorithms.losses.matching import MatchingLoss, TimeWeight, at_least_fp32, end_point_weight, flow_matching
from cellenv.path import lift


def ram_loss(v_theta: Tensor, v_ref: Tensor, v: Tensor, A: Tensor, *, c: float) -> Tensor:
    """|v_theta - sg(v_ref + c A (v - v_theta))|^2, mean over C, H, W, with sg the stop-gradient, (B,).

    v_theta, v_ref, v: (B, C, H, W). A: (B,), clipped to [-5, 5]. c: size of the correction.
    The gradient is 0 at v_theta = v_ref + c E[A (v - v_theta) | x_t]. If theta draws the samples x1, that is to first
    order in c the velocity of the optimum of E[A] - KL / c: the pull to the base is part of the target, and no KL
    penalty is added. Source: the paper's main loss, which drops the path cost. Departure: A in place of the reward.
    """
    v_theta, v_ref, v, A = at_least_fp32(v_theta, v_ref, v, A)
    target = v_ref + c * lift(A.clamp(-A_MAX, A_MAX), v) * (v - v_theta)
    return flow_matching(v_theta, target.detach())


class RAMLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, advantage, condition; writes loss_ram and kl.

    loss_ram is the mean of omega(t) times `ram_loss`. kl: see `MatchingLoss.kl_penalty`; it is logged only. The
    samples must be theta's own: model_old draws them and has to equal theta; it is not evaluated here.
    """

    in_keys = ["x0", "x1", "t", "advantage", "condition"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_ram", "kl"]  # noqa: RUF012

    def __init__(
        self,
        model: nn.Module,
        model_old: nn.Module,
        model_ref: nn.Module,
        *,
        c: float = 1.0,
        time_weight: TimeWeight = end_point_weight,
    ):
        super().__init__(model, model_old, model_ref, kl_weight=0.0, time_weight=time_weight)
        if c <= 0:
            raise ValueError(f"c must be > 0, got {c}")
        self.c = c

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        x_t, t, v_theta, v, omega = self.regression_inputs(tensordict)
        with torch.no_grad():
            v_ref = self.model_ref(x_t, t, tensordict["condition"])
        loss = omega * ram_loss(v_theta, v_ref, v, tensordict["advantage"], c=self.c)
        return TensorDict(
            {"loss_ram": loss.mean(), "kl": (self.kl_time_weight(t) * flow_matching(v_theta.detach(), v_ref)).mean()}
        )

"""Advantage-weighted matching (AWM, arXiv:2509.25050): flow matching, each sample weighted by its advantage.

In our direction of time x_t = (1 - t) x0' + t x1 and v = x1 - x0', with x0' the source that re-noises the sample x1.
B batch, C channels, H, W pixels.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from algorithms.advantages import A_MAX
from algorithms.losses.matching import (
    MatchingLoss,
    TimeWeight,
    at_least_fp32,
    end_point_weight,
    flow_matching,
    linear_weight,
)


def awm_loss(v_theta: Tensor, v_old: Tensor, v: Tensor, omega: Tensor, A: Tensor, *, clip_epsilon: float) -> Tensor:
    """-min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A), with rho of `likelihood_ratio`, (B,).

    v_theta, v_old, v: (B, C, H, W). omega, A: (B,), A clipped to [-5, 5]. On policy rho = 1, and the gradient is that
    of A omega |v_theta - v|^2. Off policy, a sample gets no gradient once its log-likelihood, -omega |v_theta - v|^2 up
    to a constant, has moved by epsilon in the direction of A; A |v_theta - v|^2 alone is unbounded below where A < 0.
    Source: the paper's objective, with the clipped ratio of PPO (arXiv:1707.06347).
    """
    A = at_least_fp32(A)[0].clamp(-A_MAX, A_MAX)
    rho = likelihood_ratio(v_theta, v_old, v, omega)
    return -torch.minimum(rho * A, rho.clamp(1 - clip_epsilon, 1 + clip_epsilon) * A)


def likelihood_ratio(v_theta: Tensor, v_old: Tensor, v: Tensor, omega: Tensor) -> Tensor:
    """rho = p_theta / p_old = exp(omega (|v_old - v|^2 - |v_theta - v|^2)), mean over C, H, W, (B,)."""
    return (omega * (flow_matching(v_old.detach(), v) - flow_matching(v_theta, v))).exp()


def is_clipped(rho: Tensor, A: Tensor, clip_epsilon: float) -> Tensor:
    """Mask of the samples that the clip stops, which get no gradient, (B,) bool."""
    return torch.where(A > 0, rho > 1 + clip_epsilon, (A < 0) & (rho < 1 - clip_epsilon))


class AWMLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, advantage, condition, row; writes loss_awm (`awm_loss`), loss_kl and metrics.

    kl, norm_ratio: see `MatchingLoss.kl_penalty`. drift = mean((v_theta - v_old)^2). clip_ratio: fraction of rows that
    the clip stops.
    """

    in_keys = ["x0", "x1", "t", "advantage", "condition", "row"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_awm", "loss_kl", "kl", "norm_ratio", "drift", "clip_ratio"]  # noqa: RUF012

    def __init__(
        self,
        model: nn.Module,
        model_old: nn.Module,
        model_ref: nn.Module,
        *,
        clip_epsilon: float = 0.01,
        kl_weight: float = 1e-4,
        kl_share: float = 1.0,
        kl_time_weight: TimeWeight = linear_weight,
        time_weight: TimeWeight = end_point_weight,
    ):
        super().__init__(
            model,
            model_old,
            model_ref,
            kl_weight=kl_weight,
            kl_share=kl_share,
            kl_time_weight=kl_time_weight,
            time_weight=time_weight,
        )
        if clip_epsilon <= 0:
            raise ValueError(f"clip_epsilon must be > 0, got {clip_epsilon}")
        self.clip_epsilon = clip_epsilon

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        inputs = self.regression_inputs(tensordict)
        x_t, t, v_theta, v, omega = inputs
        A = tensordict["advantage"]
        with torch.no_grad():
            v_old = self.model_old(x_t, t, tensordict["condition"])
            clipped = is_clipped(likelihood_ratio(v_theta, v_old, v, omega), A, self.clip_epsilon)
        return TensorDict(
            {
                "loss_awm": awm_loss(v_theta, v_old, v, omega, A, clip_epsilon=self.clip_epsilon).mean(),
                **self.kl_penalty(inputs, tensordict),
                "drift": flow_matching(v_theta.detach(), v_old).mean(),
                "clip_ratio": clipped.float().mean(),
            }
        )

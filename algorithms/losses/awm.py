"""Advantage-weighted matching (AWM, arXiv:2509.25050): flow matching, each sample weighted by its advantage.

In our direction of time x_t = (1 - t) x0' + t x1 and v = x1 - x0', with x0' the source that re-noises the sample x1.
B batch, C channels, H, W pixels.
"""

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from algorithms.advantages import A_MAX
from algorithms.losses.matching import MatchingLoss, at_least_fp32, flow_matching


def awm_loss(v_theta: Tensor, v_old: Tensor, v: Tensor, A: Tensor, *, clip: float) -> Tensor:
    """-min(rho A, clip(rho, 1 - clip, 1 + clip) A), with rho = exp(|v_old - v|^2 - |v_theta - v|^2), (B,).

    v_theta, v_old, v: (B, C, H, W). A: (B,), taken between -5 and 5. On policy rho = 1, and the gradient is that of
    A |v_theta - v|^2. Away from it, a sample whose log-likelihood, -|v_theta - v|^2 up to a constant, has moved by
    `clip` where A wanted it is left alone: A |v_theta - v|^2 itself has no lower bound where A < 0.
    Source: the paper's objective; the clipped ratio is PPO's (arXiv:1707.06347), which it takes over.
    """
    A = at_least_fp32(A)[0].clamp(-A_MAX, A_MAX)
    rho = ratio(v_theta, v_old, v)
    return -torch.minimum(rho * A, rho.clamp(1 - clip, 1 + clip) * A)


def ratio(v_theta: Tensor, v_old: Tensor, v: Tensor) -> Tensor:
    """rho = p_theta / p_old = exp(|v_old - v|^2 - |v_theta - v|^2), mean over C, H, W, (B,)."""
    return (flow_matching(v_old.detach(), v) - flow_matching(v_theta, v)).exp()


def clipped(rho: Tensor, A: Tensor, clip: float) -> Tensor:
    """Which samples have moved as far as they may, and get no gradient, (B,) bool."""
    return torch.where(A > 0, rho > 1 + clip, (A < 0) & (rho < 1 - clip))


class AWMLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, advantage, condition; writes loss_awm, loss_kl and metrics. See `awm_loss`.

    kl: see `MatchingLoss`. drift = mean((v_theta - v_old)^2). clip_ratio: the share of rows that the clip stops.
    """

    in_keys = ["x0", "x1", "t", "advantage", "condition"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_awm", "loss_kl", "kl", "drift", "clip_ratio"]  # noqa: RUF012

    def __init__(
        self,
        model: nn.Module,
        model_old: nn.Module,
        model_ref: nn.Module,
        *,
        clip: float = 0.01,
        kl_weight: float = 1e-4,
    ):
        super().__init__(model, model_old, model_ref, kl_weight=kl_weight)
        if clip <= 0:
            raise ValueError(f"clip must be > 0, got {clip}")
        self.clip = clip

    def forward(self, tensordict: TensorDict) -> TensorDict:
        match, A = self.match(tensordict), tensordict["advantage"]
        with torch.no_grad():
            v_old = self.model_old(match.x_t, match.t, tensordict["condition"])
            stopped = clipped(ratio(match.v_theta, v_old, match.v), A, self.clip)
        return TensorDict(
            {
                "loss_awm": awm_loss(match.v_theta, v_old, match.v, A, clip=self.clip).mean(),
                **self.pull(match, tensordict),
                "drift": flow_matching(match.v_theta.detach(), v_old).mean(),
                "clip_ratio": stopped.float().mean(),
            }
        )

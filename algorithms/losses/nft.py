"""DiffusionNFT (arXiv:2509.16117): move the velocity towards good samples and away from bad ones.

In our direction of time x_t = (1 - t) x0' + t x1 and v = x1 - x0', with x0' the source that re-noises the sample x1.
B batch, C channels, H, W pixels, D condition size.
"""

import math

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from algorithms.losses.matching import (
    MatchingLoss,
    TimeWeight,
    at_least_fp32,
    flow_matching,
    linear_weight,
    scaled_square,
)
from cellenv.path import lift


def nft_loss(
    v_theta: Tensor, v_old: Tensor, v: Tensor, t: Tensor, r: Tensor, *, beta: float, adaptive: bool = True
) -> Tensor:
    """(5 / beta) [r l+ + (1 - r) l-], (B,), with l+- of `nft_loss_adaptive` or of `nft_loss_plain`.

    v_theta, v_old, v: (B, C, H, W). t: (B,) in [0, 1]. r: (B,) in [0, 1]; 1 pulls v_theta to v, 0 pushes it away.

    Raises:
        ValueError: beta <= 0.
    """
    if adaptive:
        return nft_loss_adaptive(v_theta, v_old, v, t, r, beta=beta)
    return nft_loss_plain(v_theta, v_old, v, r, beta=beta)


def nft_loss_plain(v_theta: Tensor, v_old: Tensor, v: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """(5 / beta) [r |v+ - v|^2 + (1 - r) |v- - v|^2], with v+- = v_old +- beta (v_theta - v_old), mean over C, H, W.

    The gradient is 0 at v_theta = v_old + (2 r - 1) (v - v_old) / beta. Source: the paper's equation; the factor 5, the
    range of the advantage, is from the published code.

    Raises:
        ValueError: beta <= 0.
    """
    v_theta, v_old, v, r = at_least_fp32(v_theta, v_old, v, r)
    v_plus, v_minus = implicit_velocities(v_theta, v_old, beta)
    return (5 / beta) * (r * flow_matching(v_plus, v) + (1 - r) * flow_matching(v_minus, v))


def nft_loss_adaptive(v_theta: Tensor, v_old: Tensor, v: Tensor, t: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """(5 / beta) [r l+ + (1 - r) l-], with e+- = (1 - t) (v+- - v) and l+- = mean(e+-^2) / max(mean|e+-|, 1e-5).

    e is the error of the predicted end point x_t + (1 - t) v+-; no gradient flows through the denominator. Along
    v - v_old the gradient changes sign at beta (v_theta - v_old) = sign(2 r - 1) (v - v_old), not at the plain optimum.
    Source: the published code, not the paper.

    Raises:
        ValueError: beta <= 0.
    """
    v_theta, v_old, v, t, r = at_least_fp32(v_theta, v_old, v, t, r)
    v_plus, v_minus = implicit_velocities(v_theta, v_old, beta)
    remaining = lift(1 - t, v)  # (B, 1, 1, 1)
    e_plus, e_minus = remaining * (v_plus - v), remaining * (v_minus - v)
    return (5 / beta) * (r * scaled_square(e_plus, e_plus) + (1 - r) * scaled_square(e_minus, e_minus))


def implicit_velocities(v_theta: Tensor, v_old: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Implicit positive and negative policies v+- = v_old +- beta (v_theta - v_old), no gradient through v_old.

    Raises:
        ValueError: beta <= 0.
    """
    if beta <= 0:
        raise ValueError(f"beta must be > 0, got {beta}")
    step = beta * (v_theta - v_old.detach())
    return v_old.detach() + step, v_old.detach() - step


def residual(d: Tensor) -> Tensor:
    """|E[d]| / rms(d) for d = v_old - v, (B, ...): in [0, 1], near 0 if the base was trained with this coupling.

    |E[d]|^2 is estimated without bias as (B |mean d|^2 - mean |d|^2) / (B - 1), so that it does not depend on B. Needs
    samples of many contexts; nan for a single sample.
    """
    d = d.flatten(1)
    B, square = len(d), d.square().mean()
    if B < 2:
        return square.new_tensor(math.nan)
    mean_square = (B * d.mean(0).square().mean() - square) / (B - 1)
    return (mean_square.clamp(min=0) / square).sqrt()


class NFTLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, r, condition, row; writes loss_nft (`nft_loss`), loss_kl and metrics.

    kl, norm_ratio: see `MatchingLoss.kl_penalty`. drift = mean((v_theta - v_old)^2). residual: see `residual`.
    """

    in_keys = ["x0", "x1", "t", "r", "condition", "row"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_nft", "loss_kl", "kl", "norm_ratio", "drift", "residual"]  # noqa: RUF012

    def __init__(
        self,
        model: nn.Module,
        model_old: nn.Module,
        model_ref: nn.Module,
        *,
        beta: float = 1.0,
        kl_weight: float = 1e-4,
        kl_share: float = 1.0,
        kl_time_weight: TimeWeight = linear_weight,
        adaptive: bool = True,
    ):
        if beta <= 0 or kl_weight < 0:
            raise ValueError(f"need beta > 0 and kl_weight >= 0, got {beta} and {kl_weight}")
        super().__init__(
            model,
            model_old,
            model_ref,
            kl_weight=kl_weight,
            kl_share=kl_share,
            kl_time_weight=kl_time_weight,
        )
        self.beta, self.adaptive = beta, adaptive

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        inputs = self.regression_inputs(tensordict)
        x_t, t, v_theta, v, _ = inputs
        with torch.no_grad():
            v_old = self.model_old(x_t, t, tensordict["condition"])
        loss = nft_loss(v_theta, v_old, v, t, tensordict["r"], beta=self.beta, adaptive=self.adaptive)
        return TensorDict(
            {
                "loss_nft": loss.mean(),
                **self.kl_penalty(inputs, tensordict),
                "drift": flow_matching(v_theta.detach(), v_old).mean(),
                "residual": residual(v_old - v),
            }
        )

"""Shared by the losses on re-noised samples: the squared error and its weights, the three models, the KL penalty.

In our direction of time x_t = (1 - t) x0' + t x1 and v = x1 - x0', with x0' the source that re-noises the sample x1.
B batch, C channels, H, W pixels, D condition size.
"""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from cellenv.path import interpolate, velocity

TimeWeight = Callable[[Tensor], Tensor]  # t (B,) -> omega (B,), the weight of a row's squared error


def end_point_weight(t: Tensor) -> Tensor:
    """omega = 3 (1 - t)^2, (B,): measures the error of the predicted end point, (1 - t) (v_theta - v); mean 1 over t.

    The error of the velocity grows towards t = 1, where a network that predicts x1 divides its error by 1 - t and where
    a sampler of few steps never asks: unweighted, most of the gradient comes from there.
    """
    return 3 * (1 - t).square()


def linear_weight(t: Tensor) -> Tensor:
    """omega = 2 (1 - t), (B,), between `end_point_weight` and the plain square; mean 1 over t."""
    return 2 * (1 - t)


TIME_WEIGHTS: Mapping[str, TimeWeight] = {
    "end-point": end_point_weight,
    "linear": linear_weight,
    "velocity": torch.ones_like,
}


def flow_matching(v_theta: Tensor, v: Tensor) -> Tensor:
    """|v_theta - v|^2, mean over C, H, W: (B, C, H, W) twice -> (B,), in float32 or wider."""
    v_theta, v = at_least_fp32(v_theta, v)
    return (v_theta - v).square().flatten(1).mean(1)


def scaled_square(e: Tensor, unit: Tensor) -> Tensor:
    """mean(e^2) / max(mean|unit|, 1e-5) without gradient through the denominator, (B, ...) twice -> (B,)."""
    return e.square().flatten(1).mean(1) / unit.detach().abs().flatten(1).mean(1).clamp(min=1e-5)


def at_least_fp32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast all to their widest type, float32 or wider: in bf16 a time near 1 rounds to 1, and 1 - t to 0."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def in_share(row: Tensor, share: float) -> Tensor:
    """Which rows are in a share of all, by their numbers: row x sqrt(3) mod 1 < share, (n,) int64 -> (n,) bool.

    Every k-th row could be always the same time draw of a sample, since the draws of a sample are consecutive rows. An
    irrational step takes the same share of every such class, and of every micro-batch. The golden ratio is no choice:
    the times of `stratified_levels` follow it, and those of the share would fill a part of [0, 1).
    """
    return row.double() * sqrt(3) % 1 < share


class RegressionInputs(NamedTuple):
    """x_t, t, prediction, regression target and the weight of its error."""

    x_t: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    v_theta: Tensor  # prediction of theta, (B, C, H, W)
    v: Tensor  # target x1 - x0', (B, C, H, W)
    omega: Tensor  # weight of the squared error, (B,)


class MatchingLoss(LossModule):
    """Abstract: theta, old and reference models of a loss on re-noised samples; a subclass implements `forward`.

    model: theta, called as model(x_t, t, condition) -> v. model_old: draws the rollouts; every loss holds it, since a
    checkpoint saves the state of the loss. model_ref: the pretrained model of `kl_penalty`. No model is copied; old and
    ref are frozen. Nothing random is drawn. kl_weight, kl_share, kl_time_weight: see `kl_penalty`. time_weight:
    omega(t), for the losses that weight the squared error by it.
    """

    def __init__(
        self,
        model: nn.Module,
        model_old: nn.Module,
        model_ref: nn.Module,
        *,
        kl_weight: float = 1e-4,
        kl_share: float = 1.0,
        kl_time_weight: TimeWeight = linear_weight,
        time_weight: TimeWeight = end_point_weight,
    ):
        super().__init__()
        if kl_weight < 0:
            raise ValueError(f"need kl_weight >= 0, got {kl_weight}")
        if not 0 < kl_share <= 1:
            raise ValueError(f"need 0 < kl_share <= 1, the share of the rows; got {kl_share}")
        if len({id(model), id(model_old), id(model_ref)}) < 3:
            raise ValueError("need three sets of weights, got the same module twice: pass copy.deepcopy of it")
        self.model = model
        self.model_old = model_old.requires_grad_(False)
        self.model_ref = model_ref.requires_grad_(False)
        self.kl_weight, self.kl_share = kl_weight, kl_share
        self.kl_time_weight, self.time_weight = kl_time_weight, time_weight

    def regression_inputs(self, rows: TensorDictBase) -> RegressionInputs:
        """Evaluate theta on rows of x0 (the source x0'), x1, t and condition (B, D)."""
        x0, x1, t = at_least_fp32(*(rows[key] for key in ("x0", "x1", "t")))
        x_t = interpolate(x0, x1, t)
        v_theta = self.model(x_t, t, rows["condition"])
        return RegressionInputs(x_t, t, v_theta, velocity(x0, x1), self.time_weight(t))

    def kl_penalty(self, inputs: RegressionInputs, rows: TensorDictBase) -> dict[str, Tensor]:
        """loss_kl = kl_weight kl, kl = mean(omega(t) (v_theta - v_ref)^2), and norm_ratio = rms(v_theta) / rms(v_ref).

        omega: `kl_time_weight`. With 1, as published, most of kl comes from times near 1, where no sampler asks and
        where a step of AdamW moves the velocity most: the gradient of the penalty then drowns that of the reward. With
        3 (1 - t)^2, late times are left free, and the texture of the images smooths. 2 (1 - t) is between.
        All on a share kl_share of the rows, of which `row` is the number over all ranks (`in_share`), and kl divided by
        that share: neither ranks nor micro-batches change what rows are taken, nor what they weigh. Without one of them
        the base is evaluated on the first row, for norm_ratio alone: its shards need a pass on every rank.
        """
        taken = in_share(rows["row"], self.kl_share)  # (n,)
        some = taken.nonzero().squeeze(1) if taken.any() else slice(1)
        with torch.no_grad():
            v_ref = self.model_ref(inputs.x_t[some], inputs.t[some], rows["condition"][some])
        v_theta = inputs.v_theta[some]
        omega = self.kl_time_weight(inputs.t[some]) * taken[some].to(inputs.t)
        kl = (omega * flow_matching(v_theta, v_ref)).sum() / (self.kl_share * len(taken))
        square, square_ref = (v.square().mean() for v in at_least_fp32(v_theta.detach(), v_ref))
        return {"loss_kl": self.kl_weight * kl, "kl": kl.detach(), "norm_ratio": (square / square_ref).sqrt()}

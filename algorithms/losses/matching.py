"""Shared by the losses on re-noised samples: the squared error, the three models, the KL penalty.

In our direction of time x_t = (1 - t) x0' + t x1 and v = x1 - x0', with x0' the source that re-noises the sample x1.
B batch, C channels, H, W pixels, D condition size.
"""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from cellenv.path import interpolate, velocity


def flow_matching(v_theta: Tensor, v: Tensor) -> Tensor:
    """|v_theta - v|^2, mean over C, H, W: (B, C, H, W) twice -> (B,), in float32 or wider."""
    v_theta, v = at_least_fp32(v_theta, v)
    return (v_theta - v).square().flatten(1).mean(1)


def at_least_fp32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast all to their widest type, float32 or wider: in bf16 a time near 1 rounds to 1, and 1 - t to 0."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


class RegressionInputs(NamedTuple):
    """x_t, t, prediction and regression target."""

    x_t: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    v_theta: Tensor  # prediction of theta, (B, C, H, W)
    v: Tensor  # target x1 - x0', (B, C, H, W)


class MatchingLoss(LossModule):
    """Abstract: theta, old and reference models of a loss on re-noised samples; a subclass implements `forward`.

    model: theta, called as model(x_t, t, condition) -> v. model_old: draws the rollouts; every loss holds it, since a
    checkpoint saves the state of the loss. model_ref: the pretrained model of `kl_penalty`. No model is copied; old and
    ref are frozen. Nothing random is drawn.
    """

    def __init__(self, model: nn.Module, model_old: nn.Module, model_ref: nn.Module, *, kl_weight: float = 1e-4):
        super().__init__()
        if kl_weight < 0:
            raise ValueError(f"need kl_weight >= 0, got {kl_weight}")
        if len({id(model), id(model_old), id(model_ref)}) < 3:
            raise ValueError("need three sets of weights, got the same module twice: pass copy.deepcopy of it")
        self.model = model
        self.model_old = model_old.requires_grad_(False)
        self.model_ref = model_ref.requires_grad_(False)
        self.kl_weight = kl_weight

    def regression_inputs(self, rows: TensorDictBase) -> RegressionInputs:
        """Evaluate theta on rows of x0 (the source x0'), x1, t and condition (B, D)."""
        x0, x1, t = at_least_fp32(*(rows[key] for key in ("x0", "x1", "t")))
        x_t = interpolate(x0, x1, t)
        return RegressionInputs(x_t, t, self.model(x_t, t, rows["condition"]), velocity(x0, x1))

    def kl_penalty(self, inputs: RegressionInputs, rows: TensorDictBase) -> dict[str, Tensor]:
        """loss_kl = kl_weight kl, kl = mean((v_theta - v_ref)^2), and norm_ratio = rms(v_theta) / rms(v_ref)."""
        with torch.no_grad():
            v_ref = self.model_ref(inputs.x_t, inputs.t, rows["condition"])
        kl = flow_matching(inputs.v_theta, v_ref).mean()
        square, square_ref = (v.square().mean() for v in at_least_fp32(inputs.v_theta.detach(), v_ref))
        return {"loss_kl": self.kl_weight * kl, "kl": kl.detach(), "norm_ratio": (square / square_ref).sqrt()}

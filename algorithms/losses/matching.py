"""What the losses on re-noised samples share: the distance, the models, the pull to the base.

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
    """All in their widest type, float32 or wider: in bf16 a time near 1 is 1, and 1 - t is lost."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


class Match(NamedTuple):
    """Where the velocities are compared, x_t (B, C, H, W) at t (B,), what theta says there, and what was meant."""

    x_t: Tensor
    t: Tensor
    v_theta: Tensor
    v: Tensor


class MatchingLoss(LossModule):
    """Abstract. Holds theta, the sampler of this round and the pretrained model; `forward` is the loss of a child.

    model: theta, called model(x_t, t, condition) -> v. model_old: held for the checkpoint even where a loss does not
    ask it. model_ref: `pull` draws theta to it. No model is copied; old and ref are frozen. It draws nothing.
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

    def match(self, rows: TensorDictBase) -> Match:
        """The velocity of theta and the one to match, from x0 (the source x0'), x1, t and condition (B, D)."""
        x0, x1, t = at_least_fp32(*(rows[key] for key in ("x0", "x1", "t")))
        x_t = interpolate(x0, x1, t)
        return Match(x_t, t, self.model(x_t, t, rows["condition"]), velocity(x0, x1))

    def pull(self, match: Match, rows: TensorDictBase) -> dict[str, Tensor]:
        """loss_kl = kl_weight kl, and kl = mean((v_theta - v_ref)^2)."""
        with torch.no_grad():
            v_ref = self.model_ref(match.x_t, match.t, rows["condition"])
        kl = flow_matching(match.v_theta, v_ref).mean()
        return {"loss_kl": self.kl_weight * kl, "kl": kl.detach()}

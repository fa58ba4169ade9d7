"""Guidance distillation (arXiv:2210.03142): theta learns to do in one evaluation what guidance takes two for.

B batch, C channels, H, W pixels, D condition size.
"""

from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import nn

from algorithms.losses.matching import MatchingLoss, TimeWeight, flow_matching
from cellenv.generator import CellFlux, Sampling


class DistillationLoss(MatchingLoss):
    """Reads x0 (the source x0'), x1, t, condition; writes loss_distil, the mean of omega(t) |v_theta - v_guided|^2.

    v_guided = (1 + w(t)) v_ref(x_t, t, condition) - w(t) v_ref(x_t, t, none) is a function and no sample: the loss is 0
    at its minimum, and its gradient has none of the noise of re-noising.

    model_ref: the teacher, trained with dropped conditions. sampling: w(t) is its `guidance_at`; nothing else is read.

    Raises:
        ValueError: guidance of 0.
    """

    in_keys = ["x0", "x1", "t", "condition"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_distil"]  # noqa: RUF012

    def __init__(
        self,
        model: nn.Module,
        model_old: nn.Module,
        model_ref: CellFlux,
        *,
        sampling: Sampling,
        time_weight: TimeWeight = torch.ones_like,
    ):
        if not sampling.guidance:
            raise ValueError("need guidance > 0, without which there is nothing to distil; got 0")
        super().__init__(model, model_old, model_ref, kl_weight=0.0, time_weight=time_weight)
        self.sampling = sampling

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        x_t, t, v_theta, _, omega = self.regression_inputs(tensordict)
        with torch.no_grad():
            v_guided = cast(CellFlux, self.model_ref).guided(x_t, t, tensordict["condition"], self.sampling)
        return TensorDict({"loss_distil": (omega * flow_matching(v_theta, v_guided)).mean()})

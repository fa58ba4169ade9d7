"""Shared by GRPO and PPO: the clipped ratio of probabilities of the sampler's noisy steps, and the KL penalty.

n rows (noisy steps); C, H, W image, D condition size.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.objectives import ClipPPOLoss, LossModule

from algorithms.sde import TransitionPolicy, transition_distribution, velocity_error
from cellenv.generator import CellFlux

OUT_KEYS = ["loss_kl", "kl", "clip_ratio/region_mean", "max_ratio"]


class ClippedRatioLoss(LossModule):
    """Abstract: reads x_t, x_next, t, h, std, condition, action_log_prob, advantage (n, 1); writes losses and metrics.

    The first of a subclass's out_keys is -mean min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A) with rho =
    exp(log_prob - action_log_prob), by TorchRL's `ClipPPOLoss`. Before the first update of an iteration rho is 1, and
    nothing is clipped; the clip acts from the second step on. The mean of log rho is minus the KL divergence from the
    old weights: an epsilon below the divergence of one optimizer step (here, the published 1e-4) clips nearly every row
    of the next step.

    model: theta. model_ref: the pretrained model, frozen and evaluated with theta's guidance. loss_kl = kl_weight kl,
    with kl = mean |v_theta - v_ref|^2, the unit of `MatchingLoss`: one kl_weight is one pull in all algorithms. Flow-
    GRPO's weight of the steps' KL divergence, times h / (2 eta^2), is ours (`velocity_error`). clip_ratio/region_mean:
    fraction of rows with rho outside the clip range. max_ratio: the largest rho.
    """

    in_keys = ["x_t", "x_next", "t", "h", "std", "condition", "action_log_prob", "advantage"]  # noqa: RUF012

    def __init__(self, model: CellFlux, model_ref: CellFlux, *, clip_epsilon: float = 5e-3, kl_weight: float = 0.1):
        super().__init__()
        if not 0 < clip_epsilon < 1 or kl_weight < 0:
            raise ValueError(f"need 0 < clip_epsilon < 1 and kl_weight >= 0, got {clip_epsilon} and {kl_weight}")
        if model is model_ref:
            raise ValueError("need two sets of weights, got the same module twice: pass copy.deepcopy of it")
        self.policy = TransitionPolicy(model)
        self.policy_ref = TransitionPolicy(model_ref.requires_grad_(False), sampling=model.sampling)
        self.clip_loss = ClipPPOLoss(
            transition_distribution(), None, clip_epsilon=clip_epsilon, entropy_bonus=False, functional=False
        )
        self.kl_weight = kl_weight

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        rows = self.policy(tensordict.copy())
        with torch.no_grad():
            loc_ref = self.policy_ref(tensordict.copy())["loc"]
        out = self.clip_loss(rows)
        kl = velocity_error(rows["loc"], loc_ref, rows["h"]).mean()
        return TensorDict(
            {
                self.out_keys[0]: out["loss_objective"],
                "loss_kl": self.kl_weight * kl,
                "kl": kl.detach(),
                "clip_ratio/region_mean": out["clip_fraction"],
                "max_ratio": out["max_ratio"],
            }
        )

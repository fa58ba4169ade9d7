"""Flow-GRPO (arXiv:2505.05470): PPO's clipped ratio on the noisy steps of the sampler, with the group for a baseline.

B samples of one rank, S noisy steps, n = S B rows; C, H, W image, D condition size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.objectives import ClipPPOLoss, LossModule

from algorithms.advantages import advantage, group_std
from algorithms.policies import Chain, StepLaw, rows_of, step_choice, step_kl, transitions
from algorithms.renoise import total_reward
from cellenv.generator import CellFlux


@dataclass(frozen=True, kw_only=True)
class GroupedSteps:
    """Call it with a rollout and the iteration: its noisy steps as rows, each with the advantage of its image.

    A = (R - mean of the group) / (std of the group + 1e-4), the same for all steps of a path; 0 where R is no number.
    """

    chain: Chain
    signal: Callable[[TensorDict, int], Tensor] = total_reward  # what is learned from, (B,); controls go here

    def __call__(self, rollout: TensorDictBase, iteration: int) -> TensorDictBase:
        reward, group = self.signal(rollout, iteration), rollout["group"]
        A = advantage(reward, group, group_std(reward, group))  # (B,)
        steps = transitions(rollout, self.chain)
        return rows_of(steps.set("advantage", A[:, None, None].expand(*steps.shape, 1)))


class GRPOLoss(LossModule):
    """Reads x_t, x_next, t, h, std, condition, action_log_prob, advantage (n, 1); writes loss_grpo, loss_kl, metrics.

    loss_grpo = -mean min(rho A, clip(rho, 1 - clip, 1 + clip) A), rho = exp(log_prob - action_log_prob), is TorchRL's
    `ClipPPOLoss`. The mean of log rho is minus the divergence from the old weights, so that a clip below the divergence
    of one optimizer step (the published 1e-4 here) cuts off nearly every row of the next. model: theta; model_ref: the
    pretrained one, frozen, under the guidance of theta; loss_kl = kl_weight kl, the divergence from it (`step_kl`).
    clip_ratio/region_mean: share of rows whose rho is outside the clip. max_ratio: the largest rho.
    """

    in_keys = ["x_t", "x_next", "t", "h", "std", "condition", "action_log_prob", "advantage"]  # noqa: RUF012
    out_keys = ["loss_grpo", "loss_kl", "kl", "clip_ratio/region_mean", "max_ratio"]  # noqa: RUF012

    def __init__(self, model: CellFlux, model_ref: CellFlux, *, clip: float = 5e-3, kl_weight: float = 0.01):
        super().__init__()
        if not 0 < clip < 1 or kl_weight < 0:
            raise ValueError(f"need 0 < clip < 1 and kl_weight >= 0, got {clip} and {kl_weight}")
        if model is model_ref:
            raise ValueError("need two sets of weights, got the same module twice: pass copy.deepcopy of it")
        self.law = StepLaw(model)
        self.law_ref = StepLaw(model_ref.requires_grad_(False), guidance=model.guidance)
        self.clipped = ClipPPOLoss(step_choice(), None, clip_epsilon=clip, entropy_bonus=False, functional=False)
        self.kl_weight = kl_weight

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        rows = self.law(tensordict.copy())
        with torch.no_grad():
            loc_ref = self.law_ref(tensordict.copy())["loc"]
        out = self.clipped(rows)
        kl = step_kl(rows["loc"], loc_ref, rows["std"]).mean()
        return TensorDict(
            {
                "loss_grpo": out["loss_objective"],
                "loss_kl": self.kl_weight * kl,
                "kl": kl.detach(),
                "clip_ratio/region_mean": out["clip_fraction"],
                "max_ratio": out["max_ratio"],
            }
        )

"""Flow-GRPO (arXiv:2505.05470): PPO's clipped ratio on the sampler's noisy steps, with the group mean as baseline.

B samples of one rank, S noisy steps, n = S B rows; C, H, W image, D condition size.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.objectives import ClipPPOLoss, LossModule

from algorithms.advantages import RewardFn, advantage, group_std, total_reward
from algorithms.sde import (
    SDESampler,
    TransitionPolicy,
    flatten_transitions,
    step_kl,
    transition_distribution,
    transitions,
)
from cellenv.generator import CellFlux


def build_grpo_batch(
    rollout: TensorDictBase, iteration: int, *, sampler: SDESampler, reward_fn: RewardFn = total_reward
) -> TensorDictBase:
    """Noisy steps of a rollout as rows, with the advantage (n, 1) of their image; the batch of `GRPOLoss`.

    A = (R - group mean) / (group std + 1e-4), equal for all steps of a path; 0 where R is not finite.
    """
    reward, group = reward_fn(rollout, iteration), rollout["group"]
    A = advantage(reward, group, group_std(reward, group))  # (B,)
    steps = transitions(rollout, sampler)
    return flatten_transitions(steps.set("advantage", A[:, None, None].expand(*steps.shape, 1)))


class GRPOLoss(LossModule):
    """Reads x_t, x_next, t, h, std, condition, action_log_prob, advantage (n, 1); writes loss_grpo, loss_kl, metrics.

    loss_grpo = -mean min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A) with rho = exp(log_prob - action_log_prob), by
    TorchRL's `ClipPPOLoss`. The mean of log rho is minus the KL divergence from the old weights: an epsilon below the
    divergence of one optimizer step (here, the published 1e-4) clips nearly every row of the next step.

    model: theta. model_ref: the pretrained model, frozen and evaluated with theta's guidance; loss_kl = kl_weight kl,
    with kl the divergence from it (`step_kl`). clip_ratio/region_mean: fraction of rows with rho outside the clip
    range. max_ratio: the largest rho.
    """

    in_keys = ["x_t", "x_next", "t", "h", "std", "condition", "action_log_prob", "advantage"]  # noqa: RUF012
    out_keys = ["loss_grpo", "loss_kl", "kl", "clip_ratio/region_mean", "max_ratio"]  # noqa: RUF012

    def __init__(self, model: CellFlux, model_ref: CellFlux, *, clip_epsilon: float = 5e-3, kl_weight: float = 0.01):
        super().__init__()
        if not 0 < clip_epsilon < 1 or kl_weight < 0:
            raise ValueError(f"need 0 < clip_epsilon < 1 and kl_weight >= 0, got {clip_epsilon} and {kl_weight}")
        if model is model_ref:
            raise ValueError("need two sets of weights, got the same module twice: pass copy.deepcopy of it")
        self.policy = TransitionPolicy(model)
        self.policy_ref = TransitionPolicy(model_ref.requires_grad_(False), guidance=model.guidance)
        self.clip_loss = ClipPPOLoss(
            transition_distribution(), None, clip_epsilon=clip_epsilon, entropy_bonus=False, functional=False
        )
        self.kl_weight = kl_weight

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        rows = self.policy(tensordict.copy())
        with torch.no_grad():
            loc_ref = self.policy_ref(tensordict.copy())["loc"]
        out = self.clip_loss(rows)
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

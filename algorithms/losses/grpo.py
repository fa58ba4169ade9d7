"""Flow-GRPO (arXiv:2505.05470): PPO's clipped ratio on the sampler's noisy steps, with the group mean as baseline.

B samples of one rank, S noisy steps, n = S B rows; C, H, W image, D condition size.
"""

from tensordict import TensorDictBase

from algorithms.advantages import RewardFn, advantage, group_std, total_reward
from algorithms.losses.clipped_ratio import OUT_KEYS, ClippedRatioLoss
from algorithms.sde import SDESampler, flatten_transitions, transitions


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


class GRPOLoss(ClippedRatioLoss):
    """`ClippedRatioLoss` of group advantages; writes loss_grpo, loss_kl and metrics."""

    out_keys = ["loss_grpo", *OUT_KEYS]  # noqa: RUF012 - TorchRL's form

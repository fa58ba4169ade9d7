"""PPO (arXiv:1707.06347) on the sampler's noisy steps (DDPO, arXiv:2305.13301), with a critic and GAE.

An image is an episode: its S noisy steps are the actions, x_t the states, and the reward follows the last step.
B samples of one rank, n = S B rows.
"""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.objectives.value import GAE

from algorithms.advantages import EPSILON, Gather, RewardFn, identity, total_reward
from algorithms.losses.clipped_ratio import OUT_KEYS, ClippedRatioLoss
from algorithms.losses.critic import Critic
from algorithms.sde import SDESampler, flatten_transitions, transitions
from cellenv.generator import CellFlux


@torch.no_grad()
def build_ppo_batch(
    rollout: TensorDictBase,
    iteration: int,
    *,
    sampler: SDESampler,
    critic: Critic,
    lmbda: float = 0.95,
    reward_fn: RewardFn = total_reward,
    gather: Gather = identity,
) -> TensorDictBase:
    """Noisy steps of a rollout as rows, with advantage and value_target, (n, 1) each; for `PPOLoss` and `CriticLoss`.

    value_target = A + V with A of `generalized_advantages`, which is standardised over all ranks afterwards. If the
    reward is not finite, A = 0 and value_target = V.
    """
    steps = transitions(rollout, sampler)
    rows = steps.reshape(-1)
    V = critic(rows["x_t"], rows["t"], rows["condition"]).reshape(steps.shape)
    A = generalized_advantages(V, reward_fn(rollout, iteration), lmbda=lmbda)
    steps["advantage"] = standardize(A, gather)[..., None]
    steps["value_target"] = torch.where(A.isfinite(), A + V, V)[..., None]
    return flatten_transitions(steps)


def generalized_advantages(V: Tensor, reward: Tensor, *, lmbda: float) -> Tensor:
    """A_k = sum_j lmbda^j delta_{k+j}, delta_k = V_{k+1} - V_k, at the last step reward - V_k, (B, S), by TorchRL.

    V: (B, S), the value before each step. reward: (B,), of the image. Undiscounted. Source: arXiv:1506.02438, eq. 16.
    """
    last = torch.zeros_like(V, dtype=torch.bool)
    last[:, -1] = True
    after = {
        "state_value": V.roll(-1, dims=1),  # unused at the last step, where the episode ends
        "reward": torch.where(last, reward[:, None].to(V), 0),
        "done": last,
        "terminated": last,
    }
    episodes = TensorDict({"state_value": V, "next": TensorDict(after, V.shape)}, V.shape)
    episodes = episodes.apply(lambda values: values[..., None])  # [B, S] of (1,), TorchRL's form
    return GAE(gamma=1.0, lmbda=lmbda, value_network=None)(episodes)["advantage"].squeeze(-1)


def standardize(A: Tensor, gather: Gather) -> Tensor:
    """(A - mean) / (std + 1e-4) over the finite entries of all ranks, shaped as A; 0 where A is not finite."""
    finite = gather(A).double()
    finite = finite[finite.isfinite()]
    if not len(finite):
        return torch.zeros_like(A)
    centred = (A.double() - finite.mean()) / (finite.std(correction=0) + EPSILON)
    return torch.where(A.isfinite(), centred, 0).to(A.dtype)


class PPOLoss(ClippedRatioLoss):
    """`ClippedRatioLoss` of generalised advantages; writes loss_ppo, loss_kl and metrics.

    returns: running statistics of the advantages, held because a checkpoint saves the state of the loss; None: they
    have none.
    """

    out_keys = ["loss_ppo", *OUT_KEYS]  # noqa: RUF012 - TorchRL's form

    def __init__(
        self,
        model: CellFlux,
        model_ref: CellFlux,
        *,
        returns: nn.Module | None = None,
        clip_epsilon: float = 5e-3,
        kl_weight: float = 0.1,
    ):
        super().__init__(model, model_ref, clip_epsilon=clip_epsilon, kl_weight=kl_weight)
        self.returns = returns

"""PPO (arXiv:1707.06347) on the sampler's noisy steps (DDPO, arXiv:2305.13301), with a critic and GAE.

An image is an episode: its S noisy steps are the actions, x_t the states, and the reward follows the last step.
B samples of one rank, n = S B rows; C, H, W image, D condition size, F features.
"""

from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F
from torchrl.modules import ValueOperator
from torchrl.objectives import ClipPPOLoss, LossModule
from torchrl.objectives.value import GAE

from algorithms.advantages import EPSILON, Gather, RewardFn, identity, total_reward
from algorithms.sde import SDESampler, TransitionPolicy, flatten_transitions, transition_distribution, transitions
from cellenv.generator import CellFlux

CRITIC_KEYS = ["x_t", "t", "condition"]


class Critic(nn.Module):
    """Value V(x_t, t, condition), the expected reward of the image that x_t becomes, (n, 1); 0 before training."""

    def __init__(self, channels: int, condition_dim: int, rng: torch.Generator, *, width: int = 32):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 5, stride=4, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, 5, stride=4, padding=2)
        self.hidden = nn.Linear(2 * width + condition_dim + 1, 4 * width)
        self.value_head = nn.Linear(4 * width, 1)
        for layer in (self.conv1, self.conv2, self.hidden):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=rng)
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        features = F.silu(self.conv2(F.silu(self.conv1(x_t)))).mean((2, 3))  # (n, F)
        state = torch.cat([features, condition, t[:, None]], dim=1)
        return self.value_head(F.silu(self.hidden(state))).to(x_t.dtype)  # (n, 1)


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
    """Noisy steps of a rollout as rows, with advantage and value_target, (n, 1) each; the batch of `PPOLoss`.

    value_target = A + V with A of `generalized_advantages`, which is standardised over all ranks afterwards. If the
    reward is not finite, A = 0 and value_target = V.
    """
    steps = transitions(rollout, sampler)
    rows = steps.reshape(-1)
    V = critic(*(rows[key] for key in CRITIC_KEYS)).reshape(steps.shape)
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


class PPOLoss(LossModule):
    """Reads what `GRPOLoss` reads and value_target (n, 1); writes loss_ppo, loss_critic and metrics.

    Both are TorchRL's `ClipPPOLoss`: -mean min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A), and critic_weight times
    the smooth L1 error of the critic. clip_ratio/region_mean, max_ratio: see `GRPOLoss`. explained_variance: fraction
    of the target's variance that the critic explains.
    """

    in_keys = ["x_t", "x_next", "t", "h", "std", "condition", "action_log_prob", "advantage", "value_target"]  # noqa: RUF012
    out_keys = ["loss_ppo", "loss_critic", "clip_ratio/region_mean", "max_ratio", "explained_variance"]  # noqa: RUF012

    def __init__(self, model: CellFlux, critic: Critic, *, clip_epsilon: float = 5e-3, critic_weight: float = 0.5):
        super().__init__()
        if not 0 < clip_epsilon < 1 or critic_weight <= 0:
            raise ValueError(f"need 0 < clip_epsilon < 1 and critic_weight > 0, got {clip_epsilon} and {critic_weight}")
        self.policy = TransitionPolicy(model)
        self.clip_loss = ClipPPOLoss(
            transition_distribution(),
            ValueOperator(critic, in_keys=CRITIC_KEYS),
            clip_epsilon=clip_epsilon,
            critic_coeff=critic_weight,
            entropy_bonus=False,
            functional=False,
        )

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        out = self.clip_loss(self.policy(tensordict.copy()))
        return TensorDict(
            {
                "loss_ppo": out["loss_objective"],
                "loss_critic": out["loss_critic"],
                "clip_ratio/region_mean": out["clip_fraction"],
                "max_ratio": out["max_ratio"],
                "explained_variance": out["explained_variance"].squeeze(),
            }
        )

"""PPO (arXiv:1707.06347) on the denoising chain (DDPO, arXiv:2305.13301), with a critic and generalised advantages.

An image is an episode: S noisy steps are its actions, x_t its states, and its reward comes after the last.
B samples of one rank, n = S B rows; C, H, W image, D condition size, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F
from torchrl.modules import ValueOperator
from torchrl.objectives import ClipPPOLoss, LossModule
from torchrl.objectives.value import GAE

from algorithms.advantages import EPSILON
from algorithms.policies import Chain, StepLaw, rows_of, step_choice, transitions
from algorithms.renoise import total_reward
from cellenv.generator import CellFlux

CRITIC_KEYS = ["x_t", "t", "condition"]


class Critic(nn.Module):
    """V(x_t, t, condition), the reward that is expected of the image that x_t becomes, (n, 1); 0 before training."""

    def __init__(self, channels: int, condition_dim: int, rng: torch.Generator, *, width: int = 32):
        super().__init__()
        self.look = nn.Conv2d(channels, width, 5, stride=4, padding=2)
        self.gather = nn.Conv2d(width, 2 * width, 5, stride=4, padding=2)
        self.weigh = nn.Linear(2 * width + condition_dim + 1, 4 * width)
        self.value = nn.Linear(4 * width, 1)
        for layer in (self.look, self.gather, self.weigh):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=rng)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        seen = F.silu(self.gather(F.silu(self.look(x_t)))).mean((2, 3))  # (n, F)
        known = torch.cat([seen, condition, t[:, None]], dim=1)
        return self.value(F.silu(self.weigh(known))).to(x_t.dtype)  # (n, 1)


@dataclass(frozen=True, kw_only=True)
class ValuedSteps:
    """Call it with a rollout and the iteration: its noisy steps as rows with advantage and value_target, (n, 1) each.

    value_target = A + V with the A of `generalised_advantages`, which is then standardised over the rollout batch. A
    sample whose reward is no number has A = 0 and its value for a target.
    """

    chain: Chain
    critic: Critic
    lmbda: float = 0.95
    signal: Callable[[TensorDict, int], Tensor] = total_reward  # what is learned from, (B,); controls go here
    gather: Callable[[Tensor], Tensor] = lambda x: x  # all ranks' values in a row: Accelerator.gather

    @torch.no_grad()
    def __call__(self, rollout: TensorDictBase, iteration: int) -> TensorDictBase:
        steps = transitions(rollout, self.chain)
        flat = steps.reshape(-1)
        V = self.critic(*(flat[key] for key in CRITIC_KEYS)).reshape(steps.shape)
        A = generalised_advantages(V, self.signal(rollout, iteration), lmbda=self.lmbda)
        steps["advantage"] = standardised(A, self.gather)[..., None]
        steps["value_target"] = torch.where(A.isfinite(), A + V, V)[..., None]
        return rows_of(steps)


def generalised_advantages(V: Tensor, reward: Tensor, *, lmbda: float) -> Tensor:
    """A_k = sum_j lmbda^j delta_{k+j}, delta_k = V_{k+1} - V_k, at the last step reward - V_k, (B, S), by TorchRL.

    V: (B, S), the value before each step. reward: (B,), of the image. Undiscounted. Source: arXiv:1506.02438, eq. 16.
    """
    last = torch.zeros_like(V, dtype=torch.bool)
    last[:, -1] = True
    after = {
        "state_value": V.roll(-1, dims=1),  # at the last step the episode is over, and this is not used
        "reward": torch.where(last, reward[:, None].to(V), 0),
        "done": last,
        "terminated": last,
    }
    episodes = TensorDict({"state_value": V, "next": TensorDict(after, V.shape)}, V.shape)
    episodes = episodes.apply(lambda values: values[..., None])  # [B, S] of (1,), TorchRL's form
    return GAE(gamma=1.0, lmbda=lmbda, value_network=None)(episodes)["advantage"].squeeze(-1)


def standardised(A: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """(A - mean) / (std + 1e-4) over the finite entries of all ranks, as A; 0 where it is not finite."""
    known = gather(A).double()
    known = known[known.isfinite()]
    if not len(known):
        return torch.zeros_like(A)
    centred = (A.double() - known.mean()) / (known.std(correction=0) + EPSILON)
    return torch.where(A.isfinite(), centred, 0).to(A.dtype)


class PPOLoss(LossModule):
    """Reads what `GRPOLoss` reads and value_target (n, 1); writes loss_ppo, loss_critic and metrics.

    Both are TorchRL's `ClipPPOLoss`: -mean min(rho A, clip(rho, 1 - clip, 1 + clip) A), and critic_weight times the
    smooth absolute error of the critic. clip_ratio/region_mean and max_ratio as there. explained_variance: of the
    target, by the critic.
    """

    in_keys = ["x_t", "x_next", "t", "h", "std", "condition", "action_log_prob", "advantage", "value_target"]  # noqa: RUF012
    out_keys = ["loss_ppo", "loss_critic", "clip_ratio/region_mean", "max_ratio", "explained_variance"]  # noqa: RUF012

    def __init__(self, model: CellFlux, critic: Critic, *, clip: float = 5e-3, critic_weight: float = 0.5):
        super().__init__()
        if not 0 < clip < 1 or critic_weight <= 0:
            raise ValueError(f"need 0 < clip < 1 and critic_weight > 0, got {clip} and {critic_weight}")
        self.law = StepLaw(model)
        self.clipped = ClipPPOLoss(
            step_choice(),
            ValueOperator(critic, in_keys=CRITIC_KEYS),
            clip_epsilon=clip,
            critic_coeff=critic_weight,
            entropy_bonus=False,
            functional=False,
        )

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        out = self.clipped(self.law(tensordict.copy()))
        return TensorDict(
            {
                "loss_ppo": out["loss_objective"],
                "loss_critic": out["loss_critic"],
                "clip_ratio/region_mean": out["clip_fraction"],
                "max_ratio": out["max_ratio"],
                "explained_variance": out["explained_variance"].squeeze(),
            }
        )

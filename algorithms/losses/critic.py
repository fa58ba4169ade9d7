"""The critic of PPO: a small network that predicts the return from a state of the sampler, and its loss.

n rows (noisy steps); C, H, W image, D condition size, F features.
"""

from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F
from torchrl.objectives import LossModule


class Critic(nn.Module):
    """Value V(x_t, t, condition), the expected return of the image that x_t becomes, (n, 1); 0 before training."""

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


class CriticLoss(LossModule):
    """Reads x_t, t, condition, value_target (n, 1); writes loss_critic and explained_variance.

    loss_critic: smooth L1 error of V. explained_variance: 1 - var(value_target - V) / var(value_target).
    """

    in_keys = ["x_t", "t", "condition", "value_target"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_critic", "explained_variance"]  # noqa: RUF012

    def __init__(self, critic: Critic):
        super().__init__()
        self.critic = critic

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        x_t, t, condition, target = (tensordict[key] for key in self.in_keys)
        V = self.critic(x_t, t, condition)
        unexplained = (target - V.detach()).var(correction=0) / target.var(correction=0).clamp(min=1e-12)
        return TensorDict({"loss_critic": F.smooth_l1_loss(V, target), "explained_variance": 1 - unexplained})

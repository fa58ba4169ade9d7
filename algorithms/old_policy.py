"""The old policy: a lagging copy of the trained weights that draws the rollouts (DiffusionNFT, arXiv:2509.16117)."""

import torch
from torch import nn


def old_policy_decay(iteration: int, *, slope: float = 0.001, most: float = 0.5) -> float:
    """d_i = min(slope i, most), the decay of `ema_update` after iteration i: on policy at first, then lagging."""
    return min(slope * iteration, most)


@torch.no_grad()
def ema_update(old: nn.Module, theta: nn.Module, decay: float) -> None:
    """old <- d old + (1 - d) theta, in place; d = 0 copies theta."""
    for old_parameter, parameter in zip(old.parameters(), theta.parameters(), strict=True):
        old_parameter.lerp_(parameter, 1 - decay)

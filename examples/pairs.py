"""What the base learns from: controls and treated images of one experimental batch, and the loss on them. n pairs."""

from typing import Literal, NamedTuple

import torch
from base_config import Config
from torch import Tensor, nn

from algorithms.losses.matching import flow_matching
from cellenv.data.augment import dequantise, mirror
from cellenv.data.cells import CellData
from cellenv.path import interpolate, lift, velocity

TRAINING, VALIDATION, WEIGHTS, DROPOUT = range(4)  # streams of one seed


class Pairs(NamedTuple):
    """n pairs on their way: x0 with noise and x1 (n, C, H, W), t (n,), condition (n, D), keep (n,) bool."""

    x0: Tensor
    x1: Tensor
    t: Tensor
    condition: Tensor
    keep: Tensor

    def to(self, device: torch.device) -> "Pairs":
        return Pairs(*(value.to(device) for value in self))


def flow_matching_loss(network: nn.Module, pairs: Pairs, guidance: float = 0.0) -> Tensor:
    """mean over C, H, W of (v_theta(x_t, t, c) - v)^2, with x_t = (1 - t) x0 + t x1 and v = x1 - x0; (n,).

    With guidance w, v is x1 - x0 + w / (1 + w) (v_theta(x_t, t, c) - v_theta(x_t, t, none)), as a constant. It is met
    where v_theta = (1 + w) E[x1 - x0 | x_t, c] - w v_theta(x_t, t, none): a network that draws, in one pass, what two
    passes of classifier-free guidance draw. Source: Tang et al., arXiv:2502.12154, whose w is our w / (1 + w).
    """
    x_t, v = interpolate(pairs.x0, pairs.x1, pairs.t), velocity(pairs.x0, pairs.x1)
    v_theta = network(x_t, pairs.t, pairs.condition, pairs.keep).float()
    if guidance:
        with torch.no_grad():
            away = v_theta - network(x_t, pairs.t).float()
            v = v + guidance / (1 + guidance) * lift(pairs.keep, v) * away
    return flow_matching(v_theta, v)


def draw_pairs(data: CellData, n: int, rng: torch.Generator, config: Config, share: slice) -> Pairs:
    """A share of n pairs; the draws are those of all n, so that one process or several see the same pairs."""
    treated = data.draw_treated(n, rng)
    controls = data.draw_controls(data.batch[treated], rng)
    t = draw_times(n, rng, config.times)
    keep = torch.rand(n, generator=rng) >= config.condition_dropout
    noisy = torch.rand(n, generator=rng) < config.noise_share
    mirrored = torch.rand(2, 2, n, generator=rng) < config.flip  # image, axis
    noise = torch.randn(n, *data.size, generator=rng)
    x0 = mirror(data.images(controls[share]), mirrored[0][:, share])
    x1 = mirror(data.images(treated[share]), mirrored[1][:, share])
    if config.dequantise:
        x0, x1 = (dequantise(x, torch.rand(n, *data.size, generator=rng)[share]) for x in (x0, x1))
    x0 = x0 + config.noise_level * lift(noisy[share], x0) * noise[share]
    condition = data.conditions[data.perturbation[treated[share]]]
    return Pairs(x0, x1, t[share], condition, keep[share])


def draw_times(n: int, rng: torch.Generator, times: Literal["uniform", "skewed"]) -> Tensor:
    """n times in [0, 1): uniform, or 1 / (1 + sigma) with log sigma normal, mean -1.2, std 1.2 (arXiv:2206.00364)."""
    if times == "uniform":
        return torch.rand(n, generator=rng)
    return 1 / (1 + (1.2 * torch.randn(n, generator=rng) - 1.2).exp())

"""Training pairs of the base, a control and a treated image of one plate, and the loss on them.

n pairs, C channels, H, W pixels, D condition size.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from algorithms.losses.matching import flow_matching
from algorithms.recipes.base import PairConfig
from cellenv.data.augment import dequantise, mirror
from cellenv.data.cells import CellData
from cellenv.path import interpolate, lift, velocity

TRAINING, VALIDATION, WEIGHTS, DROPOUT = range(4)  # random streams of one seed


class Pairs(NamedTuple):
    """Noisy source x0 and sample x1 (n, C, H, W), t (n,), condition (n, D), keep (n,) bool: whether it is used."""

    x0: Tensor
    x1: Tensor
    t: Tensor
    condition: Tensor
    keep: Tensor

    def to(self, device: torch.device) -> "Pairs":
        """Copy to a device."""
        return Pairs(*(value.to(device) for value in self))


def flow_matching_loss(network: nn.Module, pairs: Pairs, config: PairConfig) -> Tensor:
    """Mean over C, H, W of w(t) (v_theta(x_t, t, c) - v)^2, with x_t = (1 - t) x0 + t x1 and v = x1 - x0; (n,).

    w(t) = min(1, (1 - t) / soft_end)^2, or 1 if soft_end is 0. A network that predicts x1 has the velocity
    (x1 - x_t) / (1 - t): near t = 1 its smallest errors would outweigh all others, at times when no sampler of fewer
    than 1 / soft_end steps asks.

    With guidance w, the target is v = x1 - x0 + w / (1 + w) (v_theta(x_t, t, c) - v_theta(x_t, t, none)), without
    gradient. Its minimum is v_theta = (1 + w) E[x1 - x0 | x_t, c] - w v_theta(x_t, t, none), the velocity of
    classifier-free guidance in one evaluation. Source: Tang et al., arXiv:2502.12154, whose w is our w / (1 + w).
    """
    x_t, v = interpolate(pairs.x0, pairs.x1, pairs.t), velocity(pairs.x0, pairs.x1)
    v_theta = network(x_t, pairs.t, pairs.condition, pairs.keep).float()
    if guidance := config.guidance:
        with torch.no_grad():
            difference = v_theta - network(x_t, pairs.t).float()
            v = v + guidance / (1 + guidance) * lift(pairs.keep, v) * difference
    weight = ((1 - pairs.t) / config.soft_end).clamp(max=1).square() if config.soft_end else 1.0
    return weight * flow_matching(v_theta, v)


def draw_pairs(data: CellData, n: int, rng: torch.Generator, config: PairConfig, share: slice) -> Pairs:
    """The given share of n random pairs; the random numbers of all n are drawn, so that shares add up to the whole."""
    treated = data.draw_treated(n, rng)
    controls = data.draw_controls(data.plate[treated], rng)
    t = draw_times(n, rng, config.times)
    keep = torch.rand(n, generator=rng) >= config.condition_dropout
    has_noise = torch.rand(n, generator=rng) < config.noise_share
    mirrored = torch.rand(2, 2, n, generator=rng) < config.flip  # image, axis
    noise = torch.randn(n, *data.size, generator=rng)
    x0 = mirror(data.images(controls[share]), mirrored[0][:, share])
    x1 = mirror(data.images(treated[share]), mirrored[1][:, share])
    if config.dequantise:
        x0, x1 = (dequantise(x, torch.rand(n, *data.size, generator=rng)[share]) for x in (x0, x1))
    x0 = x0 + config.noise_level * lift(has_noise[share], x0) * noise[share]
    condition = data.conditions[data.perturbation[treated[share]]]
    return Pairs(x0, x1, t[share], condition, keep[share])


def draw_times(n: int, rng: torch.Generator, times: Literal["uniform", "skewed"]) -> Tensor:
    """n times in [0, 1): uniform, or skewed, 1 / (1 + sigma) with log sigma ~ N(-1.2, 1.2^2) (arXiv:2206.00364)."""
    if times == "uniform":
        return torch.rand(n, generator=rng)
    return 1 / (1 + (1.2 * torch.randn(n, generator=rng) - 1.2).exp())

"""Which source x0' re-noises a sample, and at which times: x_t = (1 - t) x0' + t x1. Losses draw nothing.

B samples, K times per sample, n = B K rows, sample after sample; C, H, W image.

Every row draws from the stream named by (seed, iteration, global index of its sample or group, k): one rank or eight,
first run or resumed, a row gets the same numbers. A coupling is a function (samples, rngs) -> x0' (n, C, H, W), where
samples are the rows of the rollout, one a stream, and a schedule of times a function (rngs) -> t (n,).
"""

from collections.abc import Callable, Sequence

import torch
from tensordict import TensorDict
from torch import Generator, Tensor

from cellenv.data.cells import CellData
from cellenv.streams import normal_like, rng_at

T_MAX = 1 - 1e-3  # x_t at t = 1 is the sample itself, and its velocity says nothing

Coupling = Callable[[TensorDict, Sequence[Generator]], Tensor]
Times = Callable[[Sequence[Generator]], Tensor]


def row_streams(seed: int, iteration: int, index: Tensor, times_per_sample: int) -> list[Generator]:
    """One stream a row, n = B K; index: (B,), global in the iteration. Where indices are equal, so are the numbers."""
    return [rng_at(seed, iteration, i, 1 + k) for i in index.tolist() for k in range(times_per_sample)]


def independent(samples: TensorDict, rngs: Sequence[Generator], *, data: CellData, noise_level: float = 1.0) -> Tensor:
    """A control drawn anew from the same experimental batch, plus noise as in rollouts: how the base was trained."""
    batches = samples["batch"].cpu().split(1)  # n of (1,)
    rows = torch.cat([data.draw_controls(batch, rng) for batch, rng in zip(batches, rngs, strict=True)])
    distinct, which = rows.unique(return_inverse=True)
    return with_noise(data.images(distinct)[which].to(samples["x0"]), rngs, noise_level)


def group(samples: TensorDict, rngs: Sequence[Generator], *, noise_level: float = 1.0) -> Tensor:
    """The control that the sample was made from, with fresh noise."""
    return with_noise(samples["x0"], rngs, noise_level)


def generating(samples: TensorDict, rngs: Sequence[Generator]) -> Tensor:
    """The very point where the sample's flow started. It diverged wherever we tried it; kept to compare with."""
    return samples["source"]


def with_noise(x: Tensor, rngs: Sequence[Generator], noise_level: float) -> Tensor:
    """x + noise_level N(0, I), row i from the stream rngs[i]."""
    seeds = torch.cat([torch.randint(2**62, (1,), generator=rng) for rng in rngs])
    return x + noise_level * normal_like(x, seeds)


def uniform(rngs: Sequence[Generator]) -> Tensor:
    """t uniform on [0, 1 - 1e-3], (n,) float32."""
    return T_MAX * torch.cat([torch.rand(1, generator=rng) for rng in rngs])


def on_grid(rngs: Sequence[Generator], *, times: Tensor) -> Tensor:
    """t one of the sampler's own times, all but the last, where nothing is left to do; (n,) float32."""
    choice = torch.cat([torch.randint(len(times) - 1, (1,), generator=rng) for rng in rngs])
    return times[choice].float()

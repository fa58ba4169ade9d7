"""Re-noising: sources x0' and times t at which a sample x1 is trained on, x_t = (1 - t) x0' + t x1.

B samples of one rank, K times per sample, n = B K rows; C, H, W image, D condition size.

A coupling is a function (rows, rngs) -> x0' (n, C, H, W); a time sampler is a function (rngs) -> t (n,). Both get one
random stream per row, named by (seed, iteration, global index of the row's sample or group, k): the numbers of a row do
not depend on the number of ranks or on resuming. The losses interpolate and draw nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Generator, Tensor

from algorithms.advantages import Gather, RewardFn, advantage, batch_std, identity, optimality, total_reward
from cellenv.data.cells import CellData
from cellenv.streams import normal_like, rng_at

T_MAX = 1 - 1e-3  # at t = 1, x_t is the sample itself and carries no information on the velocity

Coupling = Callable[[TensorDictBase, Sequence[Generator]], Tensor]
TimeSampler = Callable[[Sequence[Generator]], Tensor]


def independent_coupling(
    rows: TensorDictBase, rngs: Sequence[Generator], *, data: CellData, noise_level: float = 1.0
) -> Tensor:
    """Random control of the same plate plus noise, (n, C, H, W): the coupling that the base was trained with."""
    plates = rows["plate"].cpu().split(1)  # n of (1,)
    controls = torch.cat([data.draw_controls(plate, rng) for plate, rng in zip(plates, rngs, strict=True)])
    distinct, which = controls.unique(return_inverse=True)
    return add_noise(data.images(distinct)[which].to(rows["x0"]), rngs, noise_level)


def group_coupling(rows: TensorDictBase, rngs: Sequence[Generator], *, noise_level: float = 1.0) -> Tensor:
    """The control that the sample was generated from, with fresh noise, (n, C, H, W)."""
    return add_noise(rows["x0"], rngs, noise_level)


def generating_coupling(rows: TensorDictBase, rngs: Sequence[Generator]) -> Tensor:
    """The very source, noise included, that the sample was generated from, (n, C, H, W).

    It diverged in every run that we tried and is kept for comparison.
    """
    return rows["source"]


def add_noise(x: Tensor, rngs: Sequence[Generator], noise_level: float) -> Tensor:
    """x + noise_level N(0, I); row i draws from rngs[i]."""
    seeds = torch.cat([torch.randint(2**62, (1,), generator=rng) for rng in rngs])
    return x + noise_level * normal_like(x, seeds)


def draw_uniform_times(rngs: Sequence[Generator]) -> Tensor:
    """t uniform on [0, 1 - 1e-3], (n,) float32."""
    return T_MAX * torch.cat([torch.rand(1, generator=rng) for rng in rngs])


def draw_grid_times(rngs: Sequence[Generator], *, times: Tensor) -> Tensor:
    """t uniform over a sampler's times except the last, (n,) float32; times: (S + 1,) for S steps."""
    choice = torch.cat([torch.randint(len(times) - 1, (1,), generator=rng) for rng in rngs])
    return times[choice].float()


def row_streams(seed: int, iteration: int, index: Tensor, times_per_sample: int) -> list[Generator]:
    """One random stream per row, n = B K; index: (B,), global within the iteration. Equal indices draw alike."""
    return [rng_at(seed, iteration, i, 1 + k) for i in index.tolist() for k in range(times_per_sample)]


@dataclass(frozen=True, kw_only=True)
class Renoise:
    """From a rollout to training rows: x0 (the source x0'), x1, t, condition, advantage, r and group, batch size [n].

    The K rows of a sample are consecutive.
    """

    coupling: Coupling
    seed: int
    times: TimeSampler = draw_uniform_times
    times_per_sample: int = 2  # K
    # Unit that has its own sources and times. "group" compares the images of a group at the same t and x0': what a loss
    # does to all of them alike cancels, since their advantages sum to 0, so gradients are less noisy.
    noise_per: Literal["group", "sample"] = "group"
    reward_fn: RewardFn = total_reward
    gather: Gather = identity

    def __call__(self, rollout: TensorDictBase, iteration: int) -> TensorDict:
        reward = self.reward_fn(rollout, iteration)
        A = advantage(reward, rollout["group"], batch_std(reward, self.gather))  # (B,)
        rngs = row_streams(self.seed, iteration, rollout[self.noise_per], self.times_per_sample)
        sample = torch.arange(len(rollout), device=rollout.device).repeat_interleave(self.times_per_sample)  # (n,)
        t = self.times(rngs).to(A.device)
        rows = rollout[sample]
        return TensorDict(
            {
                "x0": self.coupling(rows, rngs),
                "x1": rows["action"],
                "t": t,
                "condition": rows["condition"],
                "advantage": A[sample],
                "r": optimality(A)[sample],
                "group": rows["group"],
            },
            batch_size=[len(sample)],
        )

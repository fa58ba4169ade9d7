"""Re-noising: sources x0' and times t at which a sample x1 is trained on, x_t = (1 - t) x0' + t x1.

B samples of one rank, K times per sample, n = B K rows; C, H, W image, D condition size.

A coupling is a function (rows, rngs) -> x0' (n, C, H, W). It gets one random stream per row, named by (seed, iteration,
global index of the row's sample or group, k), which draws the time, too: the numbers of a row do not depend on the
number of ranks or on resuming. The losses interpolate and draw nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Generator, Tensor

from algorithms.advantages import Gather, RewardFn, advantage, batch_std, identity, optimality, total_reward
from algorithms.downsampling import max_variance_rows
from algorithms.training_times import TimeQuantile, independent_levels, stratified_levels, uniform_time
from cellenv.data.cells import CellData
from cellenv.streams import normal_like, rng_at

STRATA_STREAM = 2**31 - 1  # last part of a stream's name that no group has

Coupling = Callable[[TensorDictBase, Sequence[Generator]], Tensor]


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


def row_streams(seed: int, iteration: int, index: Tensor, times_per_sample: int) -> list[Generator]:
    """One random stream per row, n = B K; index: (B,), global within the iteration. Equal indices draw alike."""
    return [rng_at(seed, iteration, i, 1 + k) for i in index.tolist() for k in range(times_per_sample)]


@dataclass(frozen=True, kw_only=True)
class Renoise:
    """From a rollout to training rows: x0 (the source x0'), x1, t, condition, advantage, r and group, batch size [n].

    The K rows of a sample are consecutive. Their key `row` is the number of a row within the iteration, over all ranks.
    Of a rollout it reads group and sample, which are numbers over all ranks, x0, plate, condition, action and rewards.
    """

    coupling: Coupling
    seed: int
    times: TimeQuantile = uniform_time
    stratified: bool = False  # levels of `stratified_levels`, and not of `independent_levels`
    times_per_sample: int = 2  # K
    # Unit that has its own sources and times. "group" compares the images of a group at the same t and x0': what a loss
    # does to all of them alike cancels, since their advantages sum to 0, so gradients are less noisy.
    noise_per: Literal["group", "sample"] = "group"
    train_on: int | None = None  # images of each group; None: all
    reward_fn: RewardFn = total_reward
    gather: Gather = identity

    def __call__(self, rollout: TensorDictBase, iteration: int) -> TensorDict:
        """Rows of the images that are trained on."""
        return self.rows(*self.select(rollout, iteration), iteration)

    def select(self, rollout: TensorDictBase, iteration: int) -> tuple[TensorDictBase, Tensor]:
        """The images that are trained on and their rewards, (B',): all, or `train_on` of each group, in their order."""
        reward = self.reward_fn(rollout, iteration)
        if self.train_on is None:
            return rollout, reward
        kept = max_variance_rows(reward, rollout["group"], keep=self.train_on)
        return rollout[kept], reward[kept]

    def rows(self, rollout: TensorDictBase, reward: Tensor, iteration: int) -> TensorDict:
        """Rows of all these images, with advantages among them."""
        A = advantage(reward, rollout["group"], batch_std(reward, self.gather))  # (B,)
        rngs = row_streams(self.seed, iteration, rollout[self.noise_per], self.times_per_sample)
        K = self.times_per_sample
        sample = torch.arange(len(rollout), device=rollout.device).repeat_interleave(K)  # (n,)
        rows = rollout[sample]
        draw = torch.arange(len(rows), device=rows["sample"].device) % K  # (n,)
        t = self.times(self.levels(rows, rngs, iteration)).to(A.device)
        return TensorDict(
            {
                "x0": self.coupling(rows, rngs),
                "x1": rows["action"],
                "t": t,
                "condition": rows["condition"],
                "advantage": A[sample],
                "r": optimality(A)[sample],
                "group": rows["group"],
                "row": (rows["sample"] * K + draw).to(A.device),
            },
            batch_size=[len(sample)],
        )

    def levels(self, rows: TensorDictBase, rngs: Sequence[Generator], iteration: int) -> Tensor:
        """Levels u of the times, (n,) in [0, 1)."""
        if not self.stratified:
            return independent_levels(rngs)
        K = self.times_per_sample
        shared = rng_at(self.seed, iteration, STRATA_STREAM)
        return stratified_levels(rows[self.noise_per], torch.arange(len(rows)) % K, K=K, rng=shared)

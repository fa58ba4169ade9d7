"""From a rollout to the rows that losses on re-noised samples (DiffusionNFT, AWM) are trained on.

B samples of one rank, K times per sample, n = B K rows; C, H, W image, D condition size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms.advantages import advantage, batch_std, optimality
from algorithms.coupling import Coupling, Times, row_streams, uniform


def total_reward(rollout: TensorDict, iteration: int) -> Tensor:
    """The reward as the environment gave it, (B,)."""
    return rollout["next", "reward"].squeeze(-1)


@dataclass(frozen=True, kw_only=True)
class Renoise:
    """Call it with a rollout and the iteration: rows with x0 (the source x0'), x1, t, condition, advantage and r.

    Rows of one sample follow each other. noise_per: what has a source and times of its own. With "group" the images of
    a group are compared at the same t from the same x0': what a loss does to all of them alike then cancels, as their
    advantages sum to 0, and the gradient is less noisy (docs/benchmarks.md).
    """

    coupling: Coupling
    seed: int
    times: Times = uniform
    times_per_sample: int = 2  # K
    noise_per: Literal["group", "sample"] = "group"
    signal: Callable[[TensorDict, int], Tensor] = total_reward  # what is learned from, (B,); controls go here
    gather: Callable[[Tensor], Tensor] = lambda x: x  # all ranks' values in a row: Accelerator.gather

    def __call__(self, rollout: TensorDict, iteration: int) -> TensorDict:
        reward, group = self.signal(rollout, iteration), rollout["group"]
        A = advantage(reward, group, batch_std(reward, self.gather))  # (B,)
        rngs = row_streams(self.seed, iteration, rollout[self.noise_per], self.times_per_sample)
        samples = torch.arange(len(rollout), device=rollout.device).repeat_interleave(self.times_per_sample)  # (n,)
        t = self.times(rngs).to(A.device)
        rows = rollout[samples]
        return TensorDict(
            {
                "x0": self.coupling(rows, rngs),
                "x1": rows["action"],
                "t": t,
                "condition": rows["condition"],
                "advantage": A[samples],
                "r": optimality(A)[samples],
            },
            batch_size=[len(samples)],
        )

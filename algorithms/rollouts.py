"""Rollouts: groups of contexts, the policy's images of them, and their rewards.

G group size, B samples of this rank.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from algorithms.clock import Clock
from algorithms.workers.scorer import Scorer
from cellenv.data.cells import CellData
from cellenv.env import repeat_groups
from cellenv.streams import rng_at


def groups_of_rank(groups: int, rank: int, ranks: int) -> range:
    """Group ids of this rank; every rank has equally many, so their total may exceed `groups`."""
    per_rank = -(-groups // ranks)
    return range(rank * per_rank, (rank + 1) * per_rank)


def draw_groups(data: CellData, groups: range, group_size: int, *, seed: int, iteration: int) -> TensorDict:
    """One random context per group, repeated G times with a noise seed per sample, B = len(groups) G.

    `group` and `sample` are ids over all ranks; the draws depend on (seed, iteration, group) alone.
    """
    drawn = [data.draw_contexts(1, rng_at(seed, iteration, g)) for g in groups]
    contexts = repeat_groups(torch.cat(drawn), group_size)
    contexts["group"] = contexts["group"] + groups.start
    contexts["sample"] = groups.start * group_size + torch.arange(len(contexts))
    return contexts


@dataclass(frozen=True, kw_only=True)
class RolloutCollector:
    """From an iteration to its rollout: contexts, actions of the policy and rewards, batch size [B]."""

    env: EnvBase  # must accept contexts by reset(..., set_state=True)
    policy: TensorDictModuleBase
    data: CellData
    groups: range  # of this rank
    group_size: int
    seed: int
    batch_size: int  # images at once
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext  # must be the one around the loss
    scorer: Scorer | None = None  # scores a batch while the next one is drawn; None: the env has the rewards

    @torch.no_grad()
    def __call__(self, iteration: int, clock: Clock) -> TensorDictBase:
        contexts = draw_groups(self.data, self.groups, self.group_size, seed=self.seed, iteration=iteration)
        parts, scores = [], []
        for batch in contexts.to(self.device).split(self.batch_size):
            td = self.env.reset(batch.exclude("sample"), set_state=True)
            with clock("rollout"), self.autocast():
                td = self.policy(td)
            with clock("rewards"):
                td = self.env.step(td).set("sample", batch["sample"])
                if self.scorer is not None:
                    scores.append(self.scorer.submit(td, iteration))
            parts.append(td)
        with clock("rewards"):  # of workers, the time that was waited for them
            for td, scored in zip(parts, scores):
                td["next"].update(scored.result())
        return torch.cat(parts)

"""Contexts in groups, images of them, rewards: one iteration's rollout.

G group size, B samples of this rank, n rows in a chunk.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from algorithms.clock import Clock
from cellenv.data.cells import CellData
from cellenv.env import repeat_groups
from cellenv.streams import rng_at


def share(groups: int, rank: int, ranks: int) -> range:
    """The groups of this rank, as many as any other has: where they cannot be shared evenly, a few are added."""
    each = -(-groups // ranks)
    return range(rank * each, (rank + 1) * each)


def draw_groups(data: CellData, groups: range, group_size: int, *, seed: int, iteration: int) -> TensorDict:
    """Each group a context, G times in a row with seeds of their own, B = len(groups) G.

    `group` and `sample` count over all ranks; what is drawn depends on (seed, iteration, group) alone.
    """
    drawn = [data.draw_contexts(1, rng_at(seed, iteration, g)) for g in groups]
    contexts = repeat_groups(torch.cat(drawn), group_size)
    contexts["group"] = contexts["group"] + groups.start
    contexts["sample"] = groups.start * group_size + torch.arange(len(contexts))
    return contexts


@dataclass(frozen=True, kw_only=True)
class Bandit:
    """Call it with the iteration: the contexts, what the policy made of them and how it was rewarded, [B]."""

    env: EnvBase  # with its rewards; takes contexts of any number by reset(..., set_state=True)
    policy: TensorDictModuleBase
    data: CellData
    groups: range  # of this rank
    group_size: int
    seed: int
    chunk: int  # images at once
    device: torch.device
    autocast: Callable[[], AbstractContextManager] = nullcontext  # around the policy, as around the loss

    @torch.no_grad()
    def __call__(self, iteration: int, clock: Clock) -> TensorDictBase:
        contexts = draw_groups(self.data, self.groups, self.group_size, seed=self.seed, iteration=iteration)
        contexts = contexts.to(self.device)
        return torch.cat([self._step(chunk, clock) for chunk in contexts.split(self.chunk)])

    def _step(self, contexts: TensorDict, clock: Clock) -> TensorDictBase:
        td = self.env.reset(contexts.exclude("sample"), set_state=True)
        with clock("rollout"), self.autocast():
            td = self.policy(td)
        with clock("rewards"):
            td = self.env.step(td)
        return td.set("sample", contexts["sample"]).set("group", contexts["group"])

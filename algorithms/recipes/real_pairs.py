"""Real pairs beside the rows of a post-training loss, drawn as the base draws its own."""

from collections.abc import Callable
from dataclasses import dataclass

from tensordict import TensorDict, TensorDictBase

from algorithms.recipes.base import PairConfig
from algorithms.recipes.flow_matching_data import draw_pairs
from cellenv.data.cells import CellData
from cellenv.streams import rng_at

PAIR_STREAM = 2**31 - 2  # last part of a stream's name that no group has


@dataclass(frozen=True, kw_only=True)
class AddRealPairs:
    """From a rollout to the rows of `build_batch`, each with a real pair beside it: x0, x1, t, condition under `real`.

    The pairs of all ranks are one draw, keyed by (seed, iteration), of which each rank takes its part.
    """

    build_batch: Callable[[TensorDictBase, int], TensorDictBase]
    data: CellData
    pairs: PairConfig
    seed: int
    rank: int
    ranks: int

    def __call__(self, rollout: TensorDictBase, iteration: int) -> TensorDictBase:
        batch = self.build_batch(rollout, iteration)
        n = len(batch)
        rng = rng_at(self.seed, iteration, PAIR_STREAM)
        drawn = draw_pairs(self.data, n * self.ranks, rng, self.pairs, slice(self.rank * n, (self.rank + 1) * n))
        real = {"x0": drawn.x0, "x1": drawn.x1, "t": drawn.t, "condition": drawn.condition}
        return batch.set("real", TensorDict(real, [n]).to(rollout["action"].device))

"""Minibatches of an epoch: every group's rows are dealt out at random, so that each minibatch holds all groups.

n rows of one rank.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cellenv.streams import rng_at

SHUFFLE_STREAM = 1  # last part of the stream's name, five numbers; no other stream's has as many


def minibatches(batch: TensorDictBase, steps: int, key: tuple[int, int, int]) -> list[TensorDictBase]:
    """Split the rows into `steps` parts, each with as many rows of every group as the others, up to one.

    batch: its key `group` (n,) int64 names the groups; without it all rows are one group. key: (seed, iteration,
    epoch). The deal of a group depends on the key and its id alone: a group lives on one rank, so the parts of all
    ranks together are those of one process, and weigh alike.

    Raises:
        ValueError: a group has fewer than `steps` rows.
    """
    if steps == 1:
        return [batch]
    group = batch.get("group", torch.zeros(len(batch), dtype=torch.int64))
    part = deal(group.cpu(), steps, key).to(batch.device or "cpu")
    return [batch[part == s] for s in range(steps)]


def deal(group: Tensor, steps: int, key: tuple[int, int, int]) -> Tensor:
    """Part in 0 .. steps - 1 of every row, (n,) int64, balanced in each group.

    Raises:
        ValueError: a group has fewer than `steps` rows.
    """
    part = torch.empty_like(group)
    for g in group.unique().tolist():
        (rows,) = (group == g).nonzero(as_tuple=True)
        if len(rows) < steps:
            raise ValueError(f"need at least one row of every group in {steps} optimizer steps; one has {len(rows)}")
        part[rows] = torch.randperm(len(rows), generator=rng_at(*key, g, SHUFFLE_STREAM)) % steps
    return part

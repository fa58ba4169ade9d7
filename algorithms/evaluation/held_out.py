"""Contexts that are evaluated, and the real images behind and beside them. N images, n contexts."""

import torch
from tensordict import TensorDict
from torch import Tensor

from cellenv.data.cells import CellData


def held_out(data: CellData, n: int, seed: int) -> tuple[TensorDict, Tensor, Tensor]:
    """n contexts, the rows of the treated images behind them, and of the reference images; see `split_pairs`.

    The contexts say in `control` which row is their x0.
    """
    rng, treated = torch.Generator().manual_seed(seed), data.treated
    rows, references = (treated[i] for i in split_pairs(data.perturbation[treated], n, rng))
    controls = data.draw_controls(data.plate[rows], rng)
    contexts = data.contexts_of(data.perturbation[rows], controls, rng).set("control", controls)
    return contexts, rows, references


def count_pairs(data: CellData) -> int:
    """How many contexts `held_out` can draw: disjoint pairs of treated images of one compound."""
    return int((torch.bincount(data.perturbation[data.treated]) // 2).sum())


def split_pairs(compound: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two disjoint sets of n treated images, pair by pair of one compound: (rows, references), (n,) each.

    compound: (N,) ids, into which the rows point. Compounds get equal shares, as far as their images go. The first set
    gives the contexts, the second the images to compare with: only chance tells them apart, so their distance is the
    floor of all other distances.

    Raises:
        ValueError: there are fewer than n pairs.
    """
    order = torch.randperm(len(compound), generator=rng)
    order = order[torch.argsort(compound[order], stable=True)]  # by compound, at random inside
    counts = torch.unique_consecutive(compound[order], return_counts=True)[1]
    pairs_of = [run[: len(run) // 2 * 2].reshape(-1, 2) for run in order.split(counts.tolist())]  # (k, 2) each
    turn = torch.cat([torch.arange(len(pairs)) for pairs in pairs_of])  # second pairs come after all first ones
    pairs = torch.cat(pairs_of)
    if not 0 < n <= len(pairs):
        raise ValueError(f"need {n} pairs of treated images of one compound, there are {len(pairs)}: ask for 1 to that")
    shuffle = torch.randperm(len(pairs), generator=rng)
    chosen = shuffle[torch.argsort(turn[shuffle], stable=True)][:n]
    rows, references = pairs[chosen[torch.randperm(n, generator=rng)]].unbind(1)
    return rows, references

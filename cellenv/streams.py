"""Random streams that depend on what is drawn, never on who draws it: one rank or eight, resumed or not."""

import numpy as np
import torch
from torch import Tensor


def rng_at(*key: int) -> torch.Generator:
    """The stream named by non-negative integers, for example (seed, iteration, global sample index)."""
    return torch.Generator().manual_seed(seed_at(*key))


def seed_at(*key: int) -> int:
    """A seed in [0, 2^63) that is a hash of the key, for streams that are opened later."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def normal_like(x: Tensor, seeds: Tensor) -> Tensor:
    """Standard normal noise shaped as x, (B, ...); row i is drawn on the CPU from seeds[i], (B,) int64, alone."""
    if seeds.shape != x.shape[:1]:
        raise ValueError(f"need one seed per sample, {tuple(x.shape[:1])}; got {tuple(seeds.shape)}")
    distinct, which = seeds.cpu().unique(return_inverse=True)  # what is shared is drawn once
    rows = [torch.randn(x.shape[1:], generator=rng_at(seed)) for seed in distinct.tolist()]
    return torch.stack(rows)[which].to(x) if rows else torch.empty_like(x)

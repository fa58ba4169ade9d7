"""Random streams keyed by what is drawn: the same on any number of ranks, resumed or not."""

import random

import numpy as np
import torch
from torch import Tensor


def rng_at(*key: int) -> torch.Generator:
    """Random stream of a key of non-negative integers, for example (seed, iteration, global sample index)."""
    return torch.Generator().manual_seed(seed_at(*key))


def seed_at(*key: int) -> int:
    """Hash of the key in [0, 2^63), the seed of a stream that is opened later."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_global_streams(*key: int) -> None:
    """Seed the streams of Python, NumPy and PyTorch, from which a user's code may draw, and this library does not."""
    seed = seed_at(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is meant
    torch.manual_seed(seed)


def normal_like(x: Tensor, seeds: Tensor) -> Tensor:
    """Standard normal noise like x, (B, ...), drawn on the CPU; row i depends on seeds[i], (B,) int64, alone.

    Raises:
        ValueError: unless there is one seed per row.
    """
    if seeds.shape != x.shape[:1]:
        raise ValueError(f"need one seed per sample, {tuple(x.shape[:1])}; got {tuple(seeds.shape)}")
    distinct, which = seeds.cpu().unique(return_inverse=True)  # equal seeds are drawn once
    rows = [torch.randn(x.shape[1:], generator=rng_at(seed)) for seed in distinct.tolist()]
    return torch.stack(rows)[which].to(x) if rows else torch.empty_like(x)

"""Damage to the newest checkpoint of a run, and how often the one before it is read in its place."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from algorithms import checkpoint


def damage(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one bit flipped, the end cut off, or a block of zeros."""
    at = rng.randrange(len(content))
    flipped = bytes([content[at] ^ (1 << rng.randrange(8))])
    return rng.choice(
        [
            content[:at] + flipped + content[at + 1 :],
            content[:at],
            content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :],
        ]
    )


def survived_damages(run: Path, steps: int, times: int, rng: random.Random) -> int:
    """How often a run of so many steps is usable after damage to its newest checkpoint, which is put back."""
    newest = checkpoint.list_checkpoints(run / "checkpoints")[-1]
    content, survived = newest.read_bytes(), 0
    files = [path for folder in checkpoint.FOLDERS for path in checkpoint.list_checkpoints(run / folder)]
    intact = {state["iteration"]: state for state in map(checkpoint.load, files)}
    for _ in range(times):
        newest.write_bytes(damage(content, rng))
        state = checkpoint.load_to_continue(run, steps, 0.0)
        survived += same(state["parts"], intact[state["iteration"]]["parts"])
    newest.write_bytes(content)
    return survived


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

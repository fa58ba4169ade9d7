"""Best-of-N selection: draw a context N times and keep the image with the highest score. No weights move.

B contexts, C channels, H, W pixels.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cellenv.generator import CellFlux
from cellenv.path import lift
from cellenv.streams import seed_at


class Best(NamedTuple):
    """The best image so far of every context."""

    images: Tensor  # (B, C, H, W)
    score: Tensor  # (B,), nan while no draw could be scored
    draw: Tensor  # (B,) int64, its index among the draws


def best_of_n(draw: Callable[[int], Tensor], score: Callable[[Tensor], Tensor], n: int) -> Iterator[Best]:
    """Yield the best of 1, of 2, ..., of n draws, in one pass: draws are nested, so the score can only rise.

    draw: i -> images (B, C, H, W), the i-th of each context. score: images -> (B,), higher is better; nan loses to any
    number, and of equals the earlier stays. Memory does not grow with n: one draw and the best are held.

    Raises:
        ValueError: n < 1, or a score is not (B,).
    """
    if n < 1:
        raise ValueError(f"need at least one draw, got n = {n}")
    best = None
    for i in range(n):
        images = draw(i)
        value = score(images)
        if value.shape != images.shape[:1]:
            raise ValueError(f"need one score an image, {tuple(images.shape[:1])}; got {tuple(value.shape)}")
        if best is None:
            best = Best(images, value, torch.zeros_like(value, dtype=torch.int64))
        else:
            better = (value > best.score) | (best.score.isnan() & ~value.isnan())  # (B,)
            best = Best(
                torch.where(lift(better, images), images, best.images),
                torch.where(better, value, best.score),
                best.draw.masked_fill(better, i),
            )
        yield best


def sample_ith(generator: CellFlux, contexts: TensorDictBase) -> Callable[[int], Tensor]:
    """Return i -> sample i of each context, (B, C, H, W), the i-th of a group as `repeat_groups` makes it."""

    def draw(i: int) -> Tensor:
        seeds = [seed_at(seed, i) for seed in contexts["seed"].tolist()]
        return generator.sample(contexts["x0"], contexts["condition"], contexts["seed"].new_tensor(seeds))[0]

    return draw

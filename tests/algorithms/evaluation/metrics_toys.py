"""A world of three mechanisms, each of which makes one channel bright, what measures it, and images of it."""

from dataclasses import replace

import torch
from tensordict import TensorDict

from algorithms.evaluation.measurement import Evaluator
from rewards import custom_reward

MOAS = 3
N, G = 30, 4


def brightness(images: torch.Tensor) -> torch.Tensor:
    """(B, 3): mean of each channel."""
    return images.mean((2, 3))


def toy_score(images, contexts):
    """A toy world: MoA m makes channel m bright; the reward is that channel's brightness."""
    bright = brightness(images).gather(1, contexts["moa"].unsqueeze(1))  # (B, 1)
    return {"total": 2 * bright, "bright": bright}


def toy_measure(images):
    size = brightness(images).sum(1)
    return {"size": size.where(size > -2.9, torch.nan)}  # a black image has no object


TOY = Evaluator(
    specs=[replace(custom_reward(lambda images: images, name="bright", weight=2.0), has_judge=True)],
    score=toy_score,
    judge_scores=lambda images, contexts: {"bright": brightness(images)[:, 0]},
    classify=lambda images: (torch.softmax(8 * brightness(images), 1), brightness(images)),
    measure=toy_measure,
    sigma={"size": torch.full((MOAS,), 0.5)},
)


def toy_contexts(n: int = N) -> TensorDict:
    return TensorDict({"moa": torch.arange(n) % MOAS}, batch_size=[n])


def toy_images(strength: float, *, n: int = N, size: int = G, seed: int = 0, noise: float = 0.2) -> torch.Tensor:
    """(n, G, 3, 4, 4): grey noise, the channel of the MoA `strength` brighter."""
    rng = torch.Generator().manual_seed(seed)
    images = noise * torch.randn(n, size, 3, 1, 1, generator=rng).expand(-1, -1, -1, 4, 4).clone()
    images[torch.arange(n), :, toy_contexts(n)["moa"]] += strength
    return images.clamp(-1, 1)

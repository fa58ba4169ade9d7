"""Images of the same contexts -> the values of each: rewards, judges, measures, and features of networks.

A row has G images of each of n contexts, which differ by their noise alone. What becomes of the values: `metrics`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms.processes import map_batches
from rewards.segmentation import Masks
from rewards.suite.spec import RewardSpec


class Row(NamedTuple):
    """G images of each of n contexts, each made or read when it is measured, by one process."""

    images_at: Callable[[Tensor], Tensor]  # indices (B,), of sample g of context i: i G + g -> images (B, C, H, W)
    group_size: int  # G

    @classmethod
    def of(cls, images: Tensor) -> Self:
        """A row of images in memory, (n, G, C, H, W)."""
        return cls(images.flatten(0, 1).__getitem__, images.shape[1])

    def all_images(self, n: int, batch_size: int = 64) -> Tensor:
        """All images, (n, G, C, H, W), made by this process alone."""
        images = [self.images_at(index) for index in torch.arange(n * self.group_size).split(batch_size)]
        return torch.cat(images).unflatten(0, (n, self.group_size))


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """What images are measured with; every callable takes images (B, C, H, W).

    specs: the rewards that are reported, in order.
    score: rewards by name, "total" among them, (B,) or (B, 1), of images in their contexts [B].
    judge_scores: the rewards that have a held-out judge, measured by it, by name, (B,) or (B, 1).
    classify: (probabilities (B, M), features (B, F)) of the held-out classifier; None without mechanisms of action.
    measure: measures by reward name, (B,), nan where undefined; each gets a Wasserstein distance `w1_NAME`.
    sigma: for each measure its standard deviation on real images of each population of the reference, (M,), > 0.
    population: id of the population of each context, (B,): of its MoA, for example.
    features: further networks by name, images -> (B, F); each gets `frechet_NAME`, `kernel_NAME`, `diversity_NAME`.
    segment: masks of images, for their outlines; None: none are drawn.
    device: where the callables want their images and contexts.
    """

    specs: Sequence[RewardSpec]
    score: Callable[[Tensor, TensorDict], Mapping[str, Tensor]]
    judge_scores: Callable[[Tensor, TensorDict], Mapping[str, Tensor]]
    classify: Callable[[Tensor], tuple[Tensor, Tensor]] | None
    measure: Callable[[Tensor], Mapping[str, Tensor]]
    sigma: Mapping[str, Tensor]
    population: Callable[[TensorDict], Tensor] = itemgetter("moa")
    features: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    segment: Callable[[Tensor], Masks] | None = None
    device: torch.device | str = "cpu"


def measure_row(
    row: Row, contexts: TensorDict, evaluator: Evaluator, *, batch_size: int = 64, what: str = "measure"
) -> TensorDict:
    """All values of every image of a row on the contexts [n], batch [n, G], on every process.

    Keys: those of `measure_images`. what: the text of the progress bar.
    """
    n, G = len(contexts), row.group_size
    parts = map_batches(
        lambda index: measure_images(row.images_at(index), contexts[index // G], evaluator),
        torch.arange(n * G).split(batch_size),
        what,
    )
    return torch.cat(parts).reshape(n, G)


@torch.no_grad()
def measure_images(images: Tensor, contexts: TensorDict, evaluator: Evaluator) -> TensorDict:
    """All values of a batch of images (B, C, H, W), each in its own context, [B], on the CPU.

    Keys ("interval", NAME): rewards, and judges as `judge_NAME`; ("measure", NAME); ("features", "judge" or NAME);
    `right`: the held-out classifier names the MoA. Without such a classifier there is no `right`, and no "judge" unless
    a further network is called so.
    """
    images, contexts = images.to(evaluator.device), contexts.to(evaluator.device)
    interval = {name: finite_or_nan(value) for name, value in evaluator.score(images, contexts).items()}
    for name, value in evaluator.judge_scores(images, contexts).items():
        interval[f"judge_{name}"] = finite_or_nan(value)
    seen, probabilities = _look_at(images, evaluator)
    right = {} if probabilities is None else {"right": probabilities.argmax(1) == contexts["moa"]}
    return TensorDict({"interval": interval, **seen, **right}, batch_size=[len(images)]).cpu()


def measure_references(real: Row, n: int, evaluator: Evaluator, *, batch_size: int = 64) -> TensorDict:
    """Features and measures of n reference images, one a context, batch [n], on every process."""

    @torch.no_grad()
    def measure(index: Tensor) -> TensorDict:
        images = real.images_at(index).to(evaluator.device)
        return TensorDict(_look_at(images, evaluator)[0], [len(images)]).cpu()

    return torch.cat(map_batches(measure, torch.arange(n).split(batch_size), "measure real images"))


def _look_at(images: Tensor, evaluator: Evaluator) -> tuple[dict[str, dict[str, Tensor]], Tensor | None]:
    """What needs no context: measures, (B,) each, and features, (B, F) each; the held-out classifier's probabilities.

    Each network sees the images once. Probabilities are (B, M), or None without that classifier.
    """
    measures = {name: finite_or_nan(value) for name, value in evaluator.measure(images).items()}
    probabilities, judged = (None, None) if evaluator.classify is None else evaluator.classify(images)
    features = {} if judged is None else {"judge": judged}
    features |= {name: network(images) for name, network in evaluator.features.items()}
    return {"measure": measures, "features": features}, probabilities


def finite_or_nan(value: Tensor) -> Tensor:
    """One value an image, (B,); an infinite one is undefined, as in training."""
    value = value.reshape(-1)
    return value.where(value.isfinite(), torch.nan)

"""What tests of comparisons share: an evaluator of brightness, a brightness reward, and results made by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor

from algorithms.evaluation.measurement import Evaluator
from algorithms.evaluation.periodic_eval import EvalResult
from examples.studies.results import CandidateRun, Point, Results
from rewards import SUITE, custom_reward

REWARDS = [spec.name for spec in SUITE]
METRICS = ["total", *REWARDS, *(f"judge_{spec.name}" for spec in SUITE if spec.has_judge)]
BRIGHT_ONLY = (*(f"{name}=0" for name in REWARDS), f"bright={__file__}:brightness")  # reward terms without models


def brightness(images: Tensor) -> Tensor:
    """Mean pixel, (B, C, H, W) -> (B,)."""
    return images.flatten(1).mean(1)


def evaluator(moas: int) -> Evaluator:
    """Total and moa are the brightness of an image, all other rewards its square; judges see the first channel."""

    def score(images: Tensor, contexts: object) -> dict[str, Tensor]:
        bright = brightness(images)
        return {"total": bright[:, None]} | {name: bright if name == "moa" else bright.square() for name in REWARDS}

    def judge_scores(images: Tensor, contexts: object) -> dict[str, Tensor]:
        return {spec.name: images[:, 0].mean((1, 2)) for spec in SUITE if spec.has_judge}

    probabilities = torch.arange(moas) / torch.arange(moas).sum()
    return Evaluator(
        specs=[custom_reward(brightness)],
        score=score,
        judge_scores=judge_scores,
        classify=lambda images: (probabilities.expand(len(images), -1), images.mean((2, 3))),
        measure=lambda images: {},
        sigma={},
    )


def results(totals: dict[str, Sequence[Sequence[float]]], *, base: float = -4.0, contexts: int = 6) -> Results:
    """Runs whose totals at points 1, 2, ... are given by candidate and seed; 100 NFE and 10 iterations per point.

    Contexts differ by -1 to 1 around the total; the reward moa is a tenth of it, the other rewards do not move; the
    Frechet distance is 10 + total, of all runs and references the diversity is 5.
    """
    spread = torch.linspace(-1, 1, contexts).tolist()

    def result(total: float) -> EvalResult:
        values = {metric: [0.5] * contexts for metric in METRICS}
        values |= {"total": [total + s for s in spread], "moa": [total / 10] * contexts}
        return EvalResult(values=values, figures={"frechet": 10 + total, "kernel": 0.1, "diversity": 5.0})

    def run(name: str, seed: int, line: Sequence[float]) -> CandidateRun:
        points = [
            Point(iteration=10 * i, nfe=100 * i, seconds=1.0 * i, result=result(total))
            for i, total in enumerate([base, *line])
        ]
        return CandidateRun(name=name, seed=seed, points=points)

    runs = [run(name, seed, line) for name, seeds in totals.items() for seed, line in enumerate(seeds)]
    return Results(runs=runs, base=result(base), real=result(2.0))

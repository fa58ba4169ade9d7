"""Rows of images on the same contexts -> one dictionary of figures, with intervals and paired differences.

Every row has the same n contexts; a row of a generator has G samples of each, which differ by their noise alone.
Figures that depend on the number of images (Frechet, kernel, Wasserstein) are computed draw by draw, n images against n
real ones, and averaged over the G draws, so that rows of any G, and real against real, are on one scale.
What each figure means: docs/evaluation.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from algorithms.evaluation.distances import diversity, frechet_distance, kernel_distance, standardise
from algorithms.evaluation.gap import ContextMeans, GapShares, gap_shares, judge_margins
from algorithms.evaluation.statistics import (
    Interval,
    bootstrap_counts,
    mean_interval,
    nan_mean,
    wasserstein_by_group,
)
from algorithms.processes import map_batches
from rewards.segmentation import Masks
from rewards.suite.spec import RewardSpec

Figures = dict[str, Any]


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


def compute_metrics(
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
    `right`: the held-out classifier names the MoA; both of it only if there is one.
    """
    images, contexts = images.to(evaluator.device), contexts.to(evaluator.device)
    interval = {name: finite_or_nan(value) for name, value in evaluator.score(images, contexts).items()}
    for name, value in evaluator.judge_scores(images, contexts).items():
        interval[f"judge_{name}"] = finite_or_nan(value)
    values: dict[str, Any] = {
        "interval": interval,
        "measure": {name: finite_or_nan(value) for name, value in evaluator.measure(images).items()},
        "features": _features(images, evaluator),
    }
    if evaluator.classify is not None:
        values["right"] = evaluator.classify(images)[0].argmax(1) == contexts["moa"]
    return TensorDict(values, batch_size=[len(images)]).cpu()


def measure_references(real: Row, n: int, evaluator: Evaluator, *, batch_size: int = 64) -> TensorDict:
    """Features and measures of n reference images, one a context, batch [n], on every process."""

    @torch.no_grad()
    def measure(index: Tensor) -> TensorDict:
        images = real.images_at(index).to(evaluator.device)
        measures = {name: finite_or_nan(value) for name, value in evaluator.measure(images).items()}
        return TensorDict({"features": _features(images, evaluator), "measure": measures}, [len(images)]).cpu()

    return torch.cat(map_batches(measure, torch.arange(n).split(batch_size), "measure real images"))


def _features(images: Tensor, evaluator: Evaluator) -> dict[str, Tensor]:
    """Features by network, (B, F) each: of the held-out classifier, if there is one, and of the further ones."""
    judge = {} if evaluator.classify is None else {"judge": evaluator.classify(images)[1]}
    return judge | {name: network(images) for name, network in evaluator.features.items()}


def finite_or_nan(value: Tensor) -> Tensor:
    """One value an image, (B,); an infinite one is undefined, as in training."""
    value = value.reshape(-1)
    return value.where(value.isfinite(), torch.nan)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How rows are compared. config goes into the report; seed is the bootstrap's.

    baselines: of a row the further one that it is compared with, for instance the base by the same sampler.
    """

    baseline: str = "base"
    baselines: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    config: Mapping[str, object] = field(default_factory=dict)


def evaluate(
    values: Mapping[str, TensorDict],
    real: TensorDict,
    population: Tensor,
    evaluator: Evaluator,
    options: EvaluationOptions,
) -> Figures:
    """{"rows": {row: figures}, "paired": {"row-baseline": differences}, "gap": ..., "rewards": [...], ...} for JSON.

    values: for each row what `compute_metrics` found of its images, batch [n, G] on the same contexts; G may differ.
    real: `measure_references` of real images of the same compounds, [n], none of them in a row: where distances are
        taken to.
    population: ids of the contexts, (n,), of `Evaluator.population`.
    A figure is {"mean": m, "ci": [low, high]} (95 %, contexts resampled) or a number; undefined is None. "paired" holds
    row - baseline, and for rewards with a judge its margin (`judge_margins`). "gap" holds, of each pair, the `share` of
    the gap to the row "real" that is closed, and each reward's and judge's `own` (`gap_shares`). "rewards" says of each
    reward its name, label, unit, weight, and whether a judge and a measure stand behind it. "baselines", "config":
    those of the options.

    Raises:
        ValueError: a baseline is not among the rows, a measure has no sigma, or not one reference image a context.
    """
    rows = list(values)
    if missing := {options.baseline, *options.baselines, *options.baselines.values()} - set(rows):
        raise ValueError(f"need the rows {', '.join(sorted(missing))} to compare with; got {', '.join(rows)}")
    if missing := set(real["measure"].keys()) - set(evaluator.sigma):
        raise ValueError(f"need a sigma for every measure; none came for {', '.join(sorted(missing))}")
    if len(real) != len(population):
        raise ValueError(f"need one reference image a context, {len(population)}; got {len(real)}")
    counts = bootstrap_counts(len(population), np.random.default_rng(options.seed))
    means = {  # over the samples of each context, (n, G) -> (n,), of what gets an interval
        name: {key: nan_mean(value.numpy(), axis=1) for key, value in row["interval"].items()}
        for name, row in values.items()
    }
    numbers = {
        name: _numbers(row, real, population, evaluator.sigma, is_real=name == "real") for name, row in values.items()
    }
    pairs = [(row, options.baseline) for row in rows if row != options.baseline] + list(options.baselines.items())
    found: Figures = {
        "rows": {name: intervals(means[name], counts) | _json_numbers(numbers[name]) for name in rows},
        "paired": {f"{a}-{b}": _differences(means[a], means[b], numbers[a], numbers[b], counts) for a, b in pairs},
    }
    if "real" in rows:
        found["gap"] = {
            f"{a}-{b}": _gap_figures(gap_shares(means[a], means[b], means["real"], evaluator.specs, counts))
            for a, b in pairs
            if a != "real"
        }
    return found | {
        "rewards": [describe(spec) for spec in evaluator.specs],
        "baselines": dict(options.baselines),
        "config": dict(options.config),
    }


def describe(spec: RewardSpec) -> Figures:
    """What a report says of a reward."""
    return {
        "name": spec.name,
        "label": spec.label,
        "unit": spec.unit,
        "weight": spec.weight,
        "measure": spec.measure,
        "judge": spec.has_judge,
        "conditioned_on": spec.conditioned_on,
    }


def _differences(
    row: ContextMeans,
    baseline: ContextMeans,
    row_numbers: Mapping[str, float],
    baseline_numbers: Mapping[str, float],
    counts: NDArray[np.float64],
) -> Figures:
    """Paired differences of everything, and the judges' margins."""
    gain = {key: row[key] - baseline[key] for key in baseline}
    change = {key: row_numbers[key] - baseline_numbers[key] for key in baseline_numbers}
    return intervals(gain | judge_margins(gain), counts) | _json_numbers(change | {"n_contexts": len(counts[0])})


def _gap_figures(shares: GapShares) -> Figures:
    return {"share": figure(shares.share), "own": {name: figure(interval) for name, interval in shares.own.items()}}


def _numbers(
    row: TensorDict, real: TensorDict, population: Tensor, sigma: Mapping[str, Tensor], *, is_real: bool
) -> dict[str, float]:
    """The figures of a whole row; those that depend on n as means over the G draws. population: (n,) ids."""
    each_draw = row.unbind(1)  # G times [n]
    figures: dict[str, Any] = {"moa_accuracy": row["right"].double().mean()} if "right" in row else {}
    for name, raw in real["features"].items():
        features, reference = standardise(row["features", name], raw), standardise(raw, raw)  # (n, G, F), (n, F)
        figures |= distances(name, features, reference)
        pairs = torch.cat([features, reference.unsqueeze(1)], 1) if is_real else features  # of one compound, or context
        figures[metric_key("diversity", name)] = diversity(pairs)
    for name, reference in real["measure"].items():
        per_draw = [
            wasserstein_by_group(draw["measure", name], population, reference, population, sigma[name])
            for draw in each_draw
        ]
        figures[f"w1_{name}"] = nan_mean(per_draw)
    if measured := list(real["measure"].keys()):
        figures["w1_mean"] = np.mean([figures[f"w1_{name}"] for name in measured])
        figures["undefined"] = torch.stack([v.isnan().double().mean() for v in row["measure"].values()]).mean()
    return {name: float(value) for name, value in figures.items()} | {"n_contexts": len(row)}


def distances(network: str, features: Tensor, real: Tensor) -> dict[str, float]:
    """Frechet and kernel distance of standardised features, (n, G, F), to real ones, (n, F); mean of the G draws.

    nan if a feature is not finite, as those of images that are not.
    """
    functions = {"frechet": frechet_distance, "kernel": kernel_distance}
    defined = bool(features.isfinite().all())
    return {
        metric_key(name, network): float(np.mean([function(x, real) for x in features.unbind(1)]))
        if defined
        else math.nan
        for name, function in functions.items()
    }


def metric_key(metric: str, network: str) -> str:
    """Metric key in the features of a network; the judge's has no suffix."""
    return metric if network == "judge" else f"{metric}_{network}"


def intervals(values: Mapping[str, NDArray[np.float64]], counts: NDArray[np.float64]) -> Figures:
    """Figure of each; values (n,) by name, counts (K, n) from `bootstrap_counts`."""
    return {name: figure(mean_interval(value, counts)) for name, value in values.items()}


def figure(interval: Interval) -> Figures:
    """{"mean": m, "ci": [low, high]}, None where undefined."""
    return {"mean": json_number(interval.mean), "ci": [json_number(interval.low), json_number(interval.high)]}


def _json_numbers(numbers: Mapping[str, float]) -> Figures:
    return {name: json_number(value) for name, value in numbers.items()}


def json_number(value: float) -> float | None:
    """JSON has no nan and no infinity: undefined is None."""
    return value if math.isfinite(value) else None

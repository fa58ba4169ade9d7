"""Values of the images of rows on the same contexts -> one dictionary of figures, with intervals and differences.

Every row has the same n contexts; a row of a generator has G samples of each (`measurement`).
Figures that depend on the number of images (Frechet, kernel, Wasserstein) are computed draw by draw, n images against n
real ones, and averaged over the G draws, so that rows of any G, and real against real, are on one scale.
What each figure means: docs/evaluation.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from algorithms.evaluation.distances import diversity, frechet_distance, kernel_distance, standardise
from algorithms.evaluation.gap import ContextMeans, GapShares, gap_shares, judge_margins
from algorithms.evaluation.measurement import Evaluator
from algorithms.evaluation.statistics import (
    as_figure,
    bootstrap_counts,
    json_number,
    mean_interval,
    nan_mean,
    wasserstein_by_group,
)
from rewards.suite.spec import RewardSpec

Figures = dict[str, Any]


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

    values: for each row what `measure_row` found of its images, batch [n, G] on the same contexts; G may differ.
    real: `measure_references` of real images of the same compounds, [n], none of them in a row: where distances are
        taken to.
    population: ids of the contexts, (n,), of `Evaluator.population`.
    A figure is {"mean": m, "ci": [low, high]} (95 %, contexts resampled) or a number; undefined is None. "paired" holds
    row - baseline, and for rewards with a judge its margin (`judge_margins`). "gap" holds, of each pair, the `share` of
    the gap to the row "real" that is closed, and each reward's and judge's `own` (`gap_shares`). "rewards" says of each
    reward its name, label, unit, weight, and whether a judge and a measure stand behind it. "baselines", "config":
    those of the options.

    Raises:
        ValueError: `compared_pairs` finds one, a measure has no sigma, or not one reference image a context.
    """
    pairs = compared_pairs(list(values), options)
    if missing := set(real["measure"].keys()) - set(evaluator.sigma):
        raise ValueError(f"need a sigma for every measure; none came for {', '.join(sorted(missing))}")
    if len(real) != len(population):
        raise ValueError(f"need one reference image a context, {len(population)}; got {len(real)}")
    counts = bootstrap_counts(len(population), np.random.default_rng(options.seed))
    means = {  # over the samples of each context, (n, G) -> (n,), of what gets an interval
        name: {key: nan_mean(value.numpy(), axis=1) for key, value in row["interval"].items()}
        for name, row in values.items()
    }
    numbers = {name: _numbers(row, real, population, evaluator.sigma) for name, row in values.items()}
    found: Figures = {
        "rows": {name: intervals(means[name], counts) | _json_numbers(numbers[name]) for name in values},
        "paired": {
            pair: _differences(means[a], means[b], numbers[a], numbers[b], counts) for pair, (a, b) in pairs.items()
        },
    }
    if "real" in values:
        found["rows"]["real"] |= _json_numbers(compound_diversity(values["real"], real))
        found["gap"] = {
            pair: _gap_figures(gap_shares(means[a], means[b], means["real"], evaluator.specs, counts))
            for pair, (a, b) in pairs.items()
            if a != "real"
        }
    return found | {
        "rewards": [describe(spec) for spec in evaluator.specs],
        "baselines": dict(options.baselines),
        "config": dict(options.config),
    }


def compared_pairs(rows: Sequence[str], options: EvaluationOptions) -> dict[str, tuple[str, str]]:
    """(row, baseline) of every comparison by its name, ROW-BASELINE: each row with the one baseline, some with another.

    Raises:
        ValueError: a baseline is not among the rows, or two comparisons get the same name.
    """
    if missing := {options.baseline, *options.baselines, *options.baselines.values()} - {*rows}:
        raise ValueError(f"need the rows {', '.join(sorted(missing))} to compare with; got {', '.join(rows)}")
    pairs = [(row, options.baseline) for row in rows if row != options.baseline] + list(options.baselines.items())
    named = {f"{a}-{b}": (a, b) for a, b in pairs}
    if len(named) < len({*pairs}):
        raise ValueError(f"need names of rows that do not make one of two comparisons; got {', '.join(rows)}")
    return named


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
    return {
        "share": as_figure(shares.share),
        "own": {name: as_figure(interval) for name, interval in shares.own.items()},
    }


def _numbers(row: TensorDict, real: TensorDict, population: Tensor, sigma: Mapping[str, Tensor]) -> dict[str, float]:
    """The figures of a whole row; those that depend on n as means over the G draws. population: (n,) ids."""
    each_draw = row.unbind(1)  # G times [n]
    figures: dict[str, Any] = {"moa_accuracy": row["right"].double().mean()} if "right" in row else {}
    for name, raw in real["features"].items():
        features, reference = standardise(row["features", name], raw), standardise(raw, raw)  # (n, G, F), (n, F)
        figures |= distances(name, features, reference)
        figures[metric_key("diversity", name)] = diversity(features)
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


def compound_diversity(row: TensorDict, real: TensorDict) -> dict[str, float]:
    """Diversity of real images: of the one that a context has and its reference image, which are of one compound.

    row: of real images, [n, 1]. real: the reference images, [n].
    """
    pairs = {name: torch.cat([row["features", name], x.unsqueeze(1)], 1) for name, x in real["features"].items()}
    return {
        metric_key("diversity", name): diversity(standardise(both, real["features", name]))  # both: (n, 2, F)
        for name, both in pairs.items()
    }


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
    return {name: as_figure(mean_interval(value, counts)) for name, value in values.items()}


def _json_numbers(numbers: Mapping[str, float]) -> Figures:
    return {name: json_number(value) for name, value in numbers.items()}

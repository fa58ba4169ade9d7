"""Are the images better, and at what price? Rows of images on the same contexts, one dictionary of figures.

Every row has the same n contexts; a row of a generator has G samples of each, which differ by their noise alone.
Figures that depend on the number of images (Frechet, kernel, Wasserstein) are taken draw by draw, n images against n
real ones, and averaged over the G draws: so rows of any G, and real against real, are read on one scale.
What each figure means: docs/evaluation.md.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms.distances import diversity, frechet_distance, kernel_distance, standardise
from algorithms.files import write_whole
from algorithms.statistics import mean_interval, nan_mean, resamples, wasserstein_by_group
from cellenv.data.cells import CellData

Silent = Callable[[int], object]  # told how many images were done


@dataclass(frozen=True, kw_only=True)
class Rulers:
    """What images are measured with; every callable takes images (B, C, H, W) and gives one value an image.

    score: rewards by name, "total" among them, (B,) or (B, 1), of images in their contexts [B].
    judge: (probabilities (B, M), features (B, F)) of a classifier that never trained a generator.
    judge_containment: share of the nuclei inside cells, (B,), by a segmenter that never trained one.
    measure: measures by name, (B,), nan where undefined; each gets a Wasserstein distance `w1_NAME`.
    sigma: for each measure its standard deviation on real images of each MoA, (M,), > 0.
    features: further networks by name, images -> (B, F); each gets `frechet_NAME`, `kernel_NAME`, `diversity_NAME`.
    device: where the callables want their images and contexts.
    """

    score: Callable[[Tensor, TensorDict], Mapping[str, Tensor]]
    judge: Callable[[Tensor], tuple[Tensor, Tensor]]
    judge_containment: Callable[[Tensor], Tensor]
    measure: Callable[[Tensor], Mapping[str, Tensor]]
    sigma: Mapping[str, Tensor]
    features: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    device: torch.device | str = "cpu"


@torch.no_grad()
def assess(
    images: Tensor, contexts: TensorDict, rulers: Rulers, *, batch_size: int = 64, progress: Silent = lambda n: None
) -> TensorDict:
    """All values of every image: images (n, G, C, H, W), contexts [n] -> batch [n, G].

    Keys ("interval", NAME): rewards and judges; ("measure", NAME); ("features", "judge" or NAME); `right`: the judge
    names the MoA.
    """
    n, size = images.shape[:2]
    if images.ndim != 5 or contexts.batch_size != torch.Size([n]):
        raise ValueError(f"need images (n, G, C, H, W) on {contexts.batch_size[0]} contexts; got {tuple(images.shape)}")
    flat, index = images.flatten(0, 1), torch.arange(n).repeat_interleave(size)  # (n G, C, H, W), (n G,)
    parts = []
    for rows in torch.arange(n * size).split(batch_size):
        batch, context = flat[rows].to(rulers.device), contexts[index[rows]].to(rulers.device)
        probabilities, features = rulers.judge(batch)
        moa = context["moa"]
        interval = {name: value.reshape(-1) for name, value in rulers.score(batch, context).items()}
        interval["judge_moa"] = probabilities.gather(1, moa.unsqueeze(1)).squeeze(1)  # (B,)
        interval["judge_containment"] = rulers.judge_containment(batch)
        values = {
            "interval": interval,
            "right": probabilities.argmax(1) == moa,
            "measure": dict(rulers.measure(batch)),
            "features": {"judge": features} | {name: net(batch) for name, net in rulers.features.items()},
        }
        parts.append(TensorDict(values, batch_size=[len(rows)]).cpu())
        progress(len(rows))
    return torch.cat(parts).reshape(n, size)


def evaluate(
    rows: Mapping[str, Tensor],
    reference: Tensor,
    contexts: TensorDict,
    rulers: Rulers,
    *,
    baseline: str = "base",
    config: Mapping[str, object] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: Silent = lambda n: None,
) -> dict:
    """{"rows": {row: figures}, "paired": {"row-baseline": differences}, "config": config}, ready for JSON.

    rows: for each row its images (n, G, C, H, W) in [-1, 1], aligned with the contexts [n]; G may differ.
    reference: real images of the same compounds, (n, C, H, W), none of them in a row: where distances are taken to.
    A figure is {"mean": m, "ci": [low, high]} (95 %, contexts resampled with `seed`) or a number; undefined is None.
    """
    if baseline not in rows:
        raise ValueError(f"need the baseline row {baseline!r} among the rows; got {', '.join(rows)}")
    draws = resamples(len(contexts), np.random.default_rng(seed))
    real = _reference_values(reference, rulers, batch_size, progress)
    if missing := set(real["measure"].keys()) - set(rulers.sigma):
        raise ValueError(f"need a sigma for every measure; none came for {', '.join(sorted(missing))}")
    if len(real) != len(contexts):
        raise ValueError(f"need one reference image a context, {len(contexts)}; got {len(real)}")
    values = {}
    for name, images in rows.items():
        values[name] = assess(images, contexts, rulers, batch_size=batch_size, progress=progress)
    means = {name: _context_means(row) for name, row in values.items()}
    numbers = {name: _numbers(row, real, contexts["moa"], rulers.sigma) for name, row in values.items()}
    paired = {}
    for name in rows:
        if name != baseline:
            gain = {key: means[name][key] - means[baseline][key] for key in means[baseline]}
            change = {key: _number(numbers[name][key] - numbers[baseline][key]) for key in numbers[baseline]}
            change["n_contexts"] = len(contexts)
            paired[f"{name}-{baseline}"] = intervals(gain, draws) | change
    return {
        "rows": {
            name: intervals(means[name], draws) | {key: _number(value) for key, value in numbers[name].items()}
            for name in rows
        },
        "paired": paired,
        "config": dict(config or {}),
    }


def held_out(data: CellData, n: int, seed: int) -> tuple[TensorDict, Tensor, Tensor]:
    """n contexts, the rows of the treated images behind them, and those of their twins; see `twin_rows`.

    The contexts say in `control` which row is their x0.
    """
    rng, treated = torch.Generator().manual_seed(seed), data.treated
    rows, twins = (treated[i] for i in twin_rows(data.perturbation[treated], n, rng))
    controls = data.draw_controls(data.batch[rows], rng)
    return data.contexts_of(data.perturbation[rows], controls, rng).set("control", controls), rows, twins


def pairs_of(data: CellData) -> int:
    """As many contexts as `held_out` can draw: disjoint pairs of treated images of one compound."""
    return int((torch.bincount(data.perturbation[data.treated]) // 2).sum())


def twin_rows(compound: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two disjoint sets of n treated images, pair by pair of one compound: (rows, twins), (n,) each, into `compound`.

    compound: (N,) ids. Compounds get equal shares, as far as their images go. The first set gives the contexts, the
    second the images to compare with: nothing but chance tells them apart, so their distance is the floor of the rest.
    """
    order = torch.randperm(len(compound), generator=rng)
    order = order[torch.argsort(compound[order], stable=True)]  # by compound, at random inside
    counts = torch.unique_consecutive(compound[order], return_counts=True)[1]
    pairs = [run[: len(run) // 2 * 2].reshape(-1, 2) for run in order.split(counts.tolist())]  # (k, 2) each
    turn = torch.cat([torch.arange(len(pair)) for pair in pairs])  # a compound's second pair waits for all first ones
    pairs = torch.cat(pairs)
    if not 0 < n <= len(pairs):
        raise ValueError(f"need {n} pairs of treated images of one compound, there are {len(pairs)}: ask for 1 to that")
    shuffle = torch.randperm(len(pairs), generator=rng)
    chosen = shuffle[torch.argsort(turn[shuffle], stable=True)][:n]
    return pairs[chosen[torch.randperm(n, generator=rng)]].unbind(1)


def save_evaluation(evaluation: Mapping, path: str | Path) -> None:
    """Write evaluation.json: a whole file or none."""
    write_whole(path, (json.dumps(evaluation, indent=2, allow_nan=False) + "\n").encode())


def _reference_values(images: Tensor, rulers: Rulers, batch_size: int, progress: Silent) -> TensorDict:
    """Features and measures of the reference, batch [n]."""
    parts = []
    with torch.no_grad():
        for batch in images.to(rulers.device).split(batch_size):
            features = {"judge": rulers.judge(batch)[1]} | {name: net(batch) for name, net in rulers.features.items()}
            values = {"features": features, "measure": dict(rulers.measure(batch))}
            parts.append(TensorDict(values, batch_size=[len(batch)]).cpu())
            progress(len(batch))
    return torch.cat(parts)


def _context_means(row: TensorDict) -> dict[str, np.ndarray]:
    """Mean over the samples of each context, (n, G) -> (n,), of what gets an interval."""
    return {name: nan_mean(value.numpy(), axis=1) for name, value in row["interval"].items()}


def _numbers(row: TensorDict, real: TensorDict, moa: Tensor, sigma: Mapping[str, Tensor]) -> dict[str, float]:
    """The figures of a whole row; those that depend on n as means over the G draws."""
    each_draw = row.unbind(1)  # G times [n]
    figures = {"moa_accuracy": row["right"].double().mean()}
    for name, raw in real["features"].items():
        features, reference = standardise(row["features", name], raw), standardise(raw, raw)  # (n, G, F), (n, F)
        figures |= distances(name, features, reference)
        figures[named("diversity", name)] = diversity(features)
    for name, reference in real["measure"].items():
        per_draw = [wasserstein_by_group(draw["measure", name], moa, reference, moa, sigma[name]) for draw in each_draw]
        figures[f"w1_{name}"] = nan_mean(per_draw)
    figures["w1_mean"] = np.mean([figures[f"w1_{name}"] for name in real["measure"].keys()])
    figures["undefined"] = torch.stack([v.isnan().double().mean() for v in row["measure"].values()]).mean()
    return {name: float(value) for name, value in figures.items()} | {"n_contexts": len(row)}


def distances(network: str, features: Tensor, real: Tensor) -> dict[str, float]:
    """Frechet and kernel distance of standardised features, (n, G, F), to real ones, (n, F); mean of the G draws."""
    found = {"frechet": frechet_distance, "kernel": kernel_distance}
    return {named(k, network): float(np.mean([f(x, real) for x in features.unbind(1)])) for k, f in found.items()}


def named(figure: str, network: str) -> str:
    """What a figure in the features of this network is called; the judge's go without saying."""
    return figure if network == "judge" else f"{figure}_{network}"


def intervals(values: Mapping[str, np.ndarray], draws: np.ndarray) -> dict[str, dict]:
    """{"mean": m, "ci": [low, high]} of each; values (n,) by name, draws (K, n) from `resamples`; None is undefined."""
    intervals = {name: mean_interval(value, draws) for name, value in values.items()}
    return {name: {"mean": _number(i.mean), "ci": [_number(i.low), _number(i.high)]} for name, i in intervals.items()}


def _number(value: float) -> float | None:
    """JSON has no nan: undefined is None."""
    return None if math.isnan(value) else value

"""Base and trained models under best-of-N selection: curves over N with intervals, tables, a picture.

n contexts, N samples of each, K bootstrap resamples.
"""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import cycle
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from algorithms.checkpoint import fingerprint
from algorithms.evaluation.best_of_n import BestOfNConfig
from algorithms.evaluation.charts import encode_png
from algorithms.evaluation.comparison import real_row
from algorithms.evaluation.held_out import held_out
from algorithms.evaluation.measurement import Evaluator, finite_or_nan, measure_images, measure_references, measure_row
from algorithms.evaluation.metrics import EvaluationOptions, Figures, evaluate, intervals
from algorithms.evaluation.report import figure_tables
from algorithms.evaluation.statistics import bootstrap_counts
from algorithms.evaluation.stored_run import save_evaluation
from algorithms.files import write_whole
from algorithms.logs import flatten_config
from algorithms.processes import map_batches
from algorithms.selection import best_of_n, sample_ith
from algorithms.terminal import show
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux

COLOURS = ("#6b7280", "#d1495b", "#2e7d6b", "#3d5a9e", "#c58b1b")  # base, then the trained rows


def select(generator: CellFlux, contexts: TensorDict, evaluator: Evaluator, config: BestOfNConfig) -> TensorDict:
    """All values of the best of 1 .. N on every context, [n, N], see `measure_images`.

    Only an image that has just won is measured.
    """

    def select_batch(index: Tensor) -> TensorDict:
        batch = contexts[index].to(evaluator.device)

        def score(images: Tensor) -> Tensor:
            return finite_or_nan(evaluator.score(images, batch)[config.scorer])

        values: TensorDict | None = None
        each: list[TensorDict] = []
        draws = best_of_n(sample_ith(generator, batch), score, config.most)
        hidden = not PartialState().is_main_process
        for i, best in enumerate(tqdm(draws, total=config.most, desc="draw", leave=False, disable=hidden)):
            if (won := best.draw == i).any():
                fresh = measure_images(best.images[won], batch[won], evaluator)
                values = fresh if values is None else replace_rows(values, won.cpu(), fresh)
            assert values is not None  # the first draw wins everywhere
            each.append(values)
        return torch.stack(each, 1)  # [B, N]

    index = torch.arange(len(contexts))
    return torch.cat(map_batches(select_batch, index.split(config.batch_size), "select"))


def replace_rows(figures: TensorDict, rows: Tensor, fresh: TensorDict) -> TensorDict:
    """A copy with other values in the rows of a mask."""
    copy = figures.clone()
    copy[rows] = fresh
    return copy


def compare_models(
    models: Mapping[str, CellFlux], data: CellData, evaluator: Evaluator, config: BestOfNConfig
) -> Figures:
    """Select with every model, on the contexts of `cellfluxrl evaluate`; returns what best_of_n.json holds.

    Raises:
        ValueError: no reward has the name of the scorer.
    """
    contexts, rows, references = held_out(data, config.eval.contexts, config.seed)
    known = evaluator.score(data.images(rows[:1]).to(evaluator.device), contexts[:1].to(evaluator.device))
    if config.scorer not in known:
        raise ValueError(f"need a scorer of {', '.join(known)}; got {config.scorer!r}")
    selected = {name: select(model.eval(), contexts, evaluator, config) for name, model in models.items()}
    size = config.batch_size
    real = measure_row(real_row(data, rows), contexts, evaluator, batch_size=size)
    reference = measure_references(real_row(data, references), len(references), evaluator, batch_size=size)
    about = flatten_config(asdict(config)) | {"preset": config.reward.shaping}
    best_of = {}
    for N in config.tables:
        options = EvaluationOptions(seed=config.seed, config=about | {"best_of": N})
        best = {name: values[:, N - 1 : N] for name, values in selected.items()}  # [n, 1]
        best_of[str(N)] = evaluate(best | {"real": real}, reference, evaluator.population(contexts), evaluator, options)
    return {
        "curve": curve({name: values["interval"] for name, values in selected.items()}, config),
        "best_of": best_of,
        "weights": {name: fingerprint(model) for name, model in models.items()},
    }


def curve(figures: Mapping[str, TensorDict], config: BestOfNConfig) -> Figures:
    """For N = 1 .. most the interval of every figure: of each row, and of its difference to the base at the same N."""
    counts = bootstrap_counts(config.eval.contexts, np.random.default_rng(config.seed))

    def each_n(row: TensorDict) -> list[Figures]:
        return [intervals({k: v.numpy() for k, v in at.items()}, counts) for at in row.unbind(1)]

    base = figures["base"]
    return {
        "n": list(range(1, config.most + 1)),
        "rows": {name: each_n(row) for name, row in figures.items()},
        "paired": {f"{name}-base": each_n(row - base) for name, row in figures.items() if name != "base"},
    }


def publish(result: Figures, config: BestOfNConfig) -> None:
    """Write best_of_n.json and best_of_n.png, and print a table for each N of the tables, on the main process."""
    if not PartialState().is_main_process:
        return
    save_evaluation(result, config.output_dir / "best_of_n.json")
    write_whole(config.output_dir / "best_of_n.png", plot(result, config))
    for N, evaluation in result["best_of"].items():
        first, *others = figure_tables(evaluation)
        first.title = f"Best of {N} by {config.scorer}, {config.eval.contexts} held-out contexts"
        show(first, *others)


def plot(result: Figures, config: BestOfNConfig) -> bytes:
    """PNG: the scorer, which selects, and the judges, which do not, against N; below them the gain over the base."""
    evaluation = next(iter(result["best_of"].values()))
    panels = {config.scorer: f"{config.scorer}, which selects"}
    for reward in evaluation["rewards"]:
        if reward["judge"]:
            panels[f"judge_{reward['name']}"] = f"{reward['label']}, held-out judge"
    curves, real = result["curve"], evaluation["rows"]["real"]
    colours = dict(zip(curves["rows"], cycle(COLOURS), strict=False))
    figure = Figure(figsize=(4 * len(panels), 6.4), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(panels), sharex=True, squeeze=False).T
    for (above, below), (name, title) in zip(axes, panels.items(), strict=True):
        for row, at in curves["rows"].items():
            plot_line(above, curves["n"], at, name, colour=colours[row], label=row)
        for pair, at in curves["paired"].items():
            plot_line(below, curves["n"], at, name, colour=colours[pair.removesuffix("-base")], label=pair)
        if (mean := real[name]["mean"]) is not None:
            above.axhline(mean, color="black", linestyle=":", linewidth=1, label="real")
        below.axhline(0, color="black", linewidth=0.8)
        above.set_title(title)
        below.set(xlabel="best of N", ylabel="gain over the base", xscale="log")
        below.set_xticks(config.tables, labels=map(str, config.tables))
        below.minorticks_off()
    above.legend(frameon=False)
    return encode_png(figure, figure.axes)


def plot_line(axes: Axes, n: list[int], at: list[dict[str, Any]], name: str, *, colour: str, label: str) -> None:
    """A figure against N, with its 95 % intervals as a band."""
    mean = np.array([figures[name]["mean"] for figures in at], float)  # nan where undefined
    low, high = np.array([figures[name]["ci"] for figures in at], float).T
    axes.plot(n, mean, "o-", color=colour, markersize=3, label=label)
    axes.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0)

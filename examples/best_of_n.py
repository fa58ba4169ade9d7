"""Best of N: how far choosing among N draws gets the base and trained models, and whether held-out judges agree.

    python examples/best_of_n.py --model rl=runs/nft/model --output-dir runs/nft
    python examples/best_of_n.py --model rl=runs/nft/model --preset smoke

The reward that chooses rises with N by construction; the evidence is the judges, which choose nothing. Prints a table
for N = 1, 4, 16 and writes best_of_n.json and best_of_n.png. In the JSON, `curve` holds every N, with intervals of each
row and of its difference to the base at the same N, and `best_of` a whole evaluation for each N of the tables.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from command_line import parse
from options import Scoring


@dataclass(frozen=True, kw_only=True)
class Config(Scoring):
    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # NAME=DIR of a generator; may be repeated
    base: str = "embedded"  # DIR of the generator that they started from, or the name of a shipped one
    output_dir: Path = Path("runs/best-of-n")
    scorer: str = "total"  # which reward chooses: total or one of the seven
    most: int = 16  # draws of each context
    tables: tuple[int, ...] = (1, 4, 16)  # N that get a whole evaluation
    contexts: int = 256  # held-out contexts; fewer if there are not twice as many treated images
    unseen: bool = False  # the compounds that no generator was trained on
    batch_size: int = 64  # images at once
    seed: int = 0  # of contexts, noise and bootstrap


PRESETS = {
    "default": Config(),
    "smoke": Config(contexts=12, most=4, tables=(1, 4), output_dir=Path("runs/best-of-n-smoke")),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import cycle

import numpy as np
import torch
from charts import finish
from evaluate import held_out_cells, make_rulers, named
from loading import check_generators, load_judge, load_suite
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from algorithms.evaluation import Rulers, assess, evaluate, held_out, intervals, save_evaluation
from algorithms.files import write_whole
from algorithms.logs import flat
from algorithms.report import tables
from algorithms.selection import best_of, draws
from algorithms.statistics import resamples
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux

COLOURS = ("#6b7280", "#d1495b", "#2e7d6b", "#3d5a9e", "#c58b1b")  # base, then the trained rows


def select(
    generator: CellFlux, scene: TensorDict, rulers: Rulers, config: Config, bar: tqdm
) -> tuple[TensorDict, dict[int, Tensor]]:
    """All figures of the best of 1 .. N on every context, [n, N], and the images chosen at each N of the tables.

    Only an image that has just won is judged anew.
    """
    curves, chosen = [], {N: [] for N in config.tables}
    for contexts in scene.split(config.batch_size):
        contexts = contexts.to(rulers.device)

        def score(images: Tensor, contexts: TensorDict = contexts) -> Tensor:
            bar.update(len(images))
            return rulers.score(images, contexts)[config.scorer].reshape(-1)

        figures, each = None, []
        for i, best in enumerate(best_of(draws(generator, contexts), score, config.most)):
            if (won := best.draw == i).any():
                fresh = assess(best.images[won].unsqueeze(1), contexts[won], rulers)["interval"].squeeze(1)
                figures = fresh if figures is None else replaced(figures, won.cpu(), fresh)
            each.append(figures)
            if i + 1 in chosen:
                chosen[i + 1].append(best.images.cpu())
        curves.append(torch.stack(each, 1))  # [B, N]
    return torch.cat(curves), {N: torch.cat(images) for N, images in chosen.items()}


def replaced(figures: TensorDict, rows: Tensor, fresh: TensorDict) -> TensorDict:
    """A copy with other values in the rows of a mask."""
    copy = figures.clone()
    copy[rows] = fresh
    return copy


def compare(models: Mapping[str, CellFlux], data: CellData, rulers: Rulers, config: Config) -> dict:
    """Choose with every model, on the contexts of `evaluate.py`; returns what best_of_n.json holds."""
    scene, rows, twins = held_out(data, config.contexts, config.seed)
    real, reference = data.images(rows), data.images(twins)
    known = rulers.score(real[:1].to(rulers.device), scene[:1].to(rulers.device))
    if config.scorer not in known:
        raise ValueError(f"need a scorer of {', '.join(known)}; got {config.scorer!r}")
    if not 1 <= min(config.tables) <= max(config.tables) <= config.most:
        raise ValueError(f"need tables between 1 and most = {config.most}; got {config.tables}")
    with tqdm(total=len(models) * config.most * config.contexts, desc="draw", unit="image", leave=False) as bar:
        found = {name: select(model.eval(), scene, rulers, config, bar) for name, model in models.items()}
    about = flat(asdict(config)) | {"preset": config.rewards}
    best_of_each = {
        str(N): evaluate(
            {name: chosen[N].unsqueeze(1) for name, (_, chosen) in found.items()} | {"real": real.unsqueeze(1)},
            reference,
            scene,
            rulers,
            config=about | {"best_of": N},
            seed=config.seed,
            batch_size=config.batch_size,
        )
        for N in config.tables
    }
    return {"curve": curve({name: c for name, (c, _) in found.items()}, config), "best_of": best_of_each}


def curve(figures: Mapping[str, TensorDict], config: Config) -> dict:
    """For N = 1 .. most the interval of every figure: of each row, and of its difference to the base at the same N."""
    draws_of_contexts = resamples(config.contexts, np.random.default_rng(config.seed))

    def each_n(row: TensorDict) -> list[dict]:
        return [intervals({k: v.numpy() for k, v in at.items()}, draws_of_contexts) for at in row.unbind(1)]

    base = figures["base"]
    return {
        "n": list(range(1, config.most + 1)),
        "rows": {name: each_n(row) for name, row in figures.items()},
        "paired": {f"{name}-base": each_n(row - base) for name, row in figures.items() if name != "base"},
    }


def plot(result: Mapping, config: Config) -> bytes:
    """PNG: the scorer, which chose, and the two judges, which did not, against N; below them the gain over the base."""
    panels = {config.scorer: f"{config.scorer}, which chose"}
    panels |= {"judge_moa": "MoA, held-out judge", "judge_containment": "containment, held-out judge"}
    curve, real = result["curve"], next(iter(result["best_of"].values()))["rows"]["real"]
    colours = dict(zip(curve["rows"], cycle(COLOURS), strict=False))
    figure = Figure(figsize=(12, 6.4), dpi=150, layout="constrained")
    for (above, below), (name, title) in zip(figure.subplots(2, 3, sharex=True).T, panels.items(), strict=True):
        for row, at in curve["rows"].items():
            line(above, curve["n"], at, name, colours[row], row)
        for pair, at in curve["paired"].items():
            line(below, curve["n"], at, name, colours[pair.removesuffix("-base")], pair)
        above.axhline(real[name]["mean"], color="black", linestyle=":", linewidth=1, label="real")
        below.axhline(0, color="black", linewidth=0.8)
        above.set_title(title)
        below.set(xlabel="best of N", ylabel="gain over the base", xscale="log")
        below.set_xticks(config.tables, labels=map(str, config.tables))
        below.minorticks_off()
    above.legend(frameon=False)
    return finish(figure, figure.axes)


def line(axes: Axes, n: list[int], at: list[dict], name: str, colour: str, label: str) -> None:
    """A figure against N, with its 95 % intervals as a band."""
    axes.plot(n, [figures[name]["mean"] for figures in at], "o-", color=colour, markersize=3, label=label)
    axes.fill_between(n, *zip(*(figures[name]["ci"] for figures in at)), color=colour, alpha=0.18, linewidth=0)


def main(config: Config) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folders = {"base": config.base} | dict(map(named, config.model))
    if len(folders) != 1 + len(config.model):
        raise ValueError(f"need another NAME for each --model NAME=DIR, none of them base; got {config.model}")
    models = {name: CellFlux.from_pretrained(folder).to(device) for name, folder in folders.items()}
    data, contexts = held_out_cells(config, config.contexts, unseen=config.unseen)
    check_generators(data, *models.values())
    config = replace(config, contexts=contexts)
    rulers = make_rulers(data, **load_suite(config, device), judge=load_judge(config), device=device)
    result = compare(models, data, rulers, config)
    save_evaluation(result, config.output_dir / "best_of_n.json")
    write_whole(config.output_dir / "best_of_n.png", plot(result, config))
    for N, evaluation in result["best_of"].items():
        table = tables(evaluation)[0]
        table.title = f"Best of {N} by {config.scorer}, {config.contexts} held-out contexts"
        Console().print(table)


if __name__ == "__main__":
    main(CONFIG)

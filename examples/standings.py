"""Tables and pictures of a comparison. S seeds, n contexts, P points."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from charts import finish
from matplotlib.figure import Figure
from results import Results
from rich.console import Console
from rich.table import Table as RichTable

from algorithms.curves import crossed_interval, passes_to_reach
from algorithms.files import write_whole
from algorithms.report import MARKS, STYLE, number
from algorithms.statistics import Interval
from algorithms.verdict import REWARDS

COLOURS = ("#d1495b", "#3d5a9e", "#2e7d6b", "#c58b1b", "#7a5195", "#3fa7c4", "#8f5a3c", "#6b7280")
FIGURES = ("total", *REWARDS, "judge_moa", "judge_containment")

Seeds = Mapping[str, Sequence[Mapping[str, np.ndarray]]]  # of each candidate its seeds' columns, (P,) each: `load_csv`


class Table(NamedTuple):
    """Text in rows and columns."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """With the title in a line of its own."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return f"{self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def turned(self) -> "Table":
        """Columns for rows: where there are more figures than candidates, it is the narrower one."""
        head, *rows = (list(column) for column in zip(self.head, *self.rows, strict=True))
        return Table(self.title, head, rows)

    def terminal(self) -> RichTable:
        """For a console."""
        table = RichTable(*self.head, title=self.title, **STYLE)
        for row in self.rows:
            table.add_row(*row)
        return table


def publish(
    results: Results,
    seeds: Seeds,
    folder: Path,
    *,
    label: str,
    usual: str,
    notes: Sequence[str] = (),
    picture: bytes | None = None,
) -> None:
    """Print the tables and notes; write them to folder/table.md, and a picture, the race if None, to picture.png.

    usual: the candidate that the others are compared with, if it is among them.
    """
    tables = [summary(results, label), gains(results, label)]
    if usual in results.names():
        tables.append(gains(results, label, over=usual))
    for table in (tables[0], *(table.turned() for table in tables[1:])):
        Console().print(table.terminal())
    for note in notes:
        Console().print(note, highlight=False)
    text = "\n".join([*(table.markdown() for table in tables), *(f"- {note}" for note in notes)])
    write_whole(folder / "table.md", f"{text}\n".encode())
    write_whole(folder / "picture.png", race(results, seeds) if picture is None else picture)


def summary(results: Results, label: str) -> Table:
    """Where every candidate ends, beside its base and real cells."""
    head = [label, "iterations", "total", "total − base", "MoA, judge", "Fréchet"]
    rows = []
    for name in results.names():
        ends = [run.points[-1] for run in results.seeds(name)]
        distances = [end.marks.frechet for end in ends]
        spread = f" ({number(min(distances))} to {number(max(distances))})" if len(ends) > 1 else ""
        rows.append(
            [
                name,
                str(ends[0].iteration),
                spelled(crossed_interval(results.last(name, "total"))),
                spelled(gain(results, name, "total"), sign=True),
                spelled(crossed_interval(results.last(name, "judge_moa")), decimals=3),
                number(float(np.mean(distances))) + spread,
            ]
        )
    for name, marks in (("base", results.base), ("real", results.real)):
        total, judge = (crossed_interval(marks.of(figure)[None]) for figure in ("total", "judge_moa"))
        rows.append([name, "", spelled(total), "", spelled(judge, decimals=3), number(marks.frechet)])
    S, n = max(len(results.seeds(name)) for name in results.names()), len(results.base.of("total"))
    seeds = f"{S} seeds and {n} contexts; of Fréchet: lowest to highest seed" if S > 1 else f"{n} contexts; one seed"
    return Table(f"At the end; in brackets 95 % intervals over {seeds}", head, rows)


def gains(results: Results, label: str, over: str | None = None) -> Table:
    """Every reward and judge less the base's, or less those of the candidate `over`, with marks of significance."""
    rows = []
    for name in results.names():
        if name == over:
            continue
        moved = [gain(results, name, figure, over) for figure in FIGURES]
        rows.append([name, *(f"{number(i.mean, sign=True, decimals=3)} {MARKS[i.sign]}" for i in moved)])
    head = [label, *(figure.replace("judge_", "judge: ").replace("_", " ") for figure in FIGURES)]
    return Table(f"Gain over {over or 'the base'}; ▲ ▼ where the 95 % interval leaves zero", head, rows)


def gain(results: Results, name: str, figure: str, over: str | None = None) -> Interval:
    """What a candidate has over the base, context by context, or over another one, seed by seed too."""
    than = results.base.of(figure) if over is None else results.last(over, figure)
    return crossed_interval(results.last(name, figure) - than)


def spelled(i: Interval, *, sign: bool = False, decimals: int = 2) -> str:
    """A mean with its interval."""
    mean, low, high = (number(x, sign=sign, decimals=decimals) for x in i)
    return f"{mean} ({low}, {high})"


def lead(results: Results, seeds: Seeds, first: str, other: str) -> str:
    """With how many times fewer passes `first` reaches the mean total at which `other` ends, as a sentence.

    Where the other's gain over the base is not above chance there is nothing to reach: the first step would do.
    """
    mine, its = _mean(seeds[first]), _mean(seeds[other])
    goal, ratio = f"the final total of {other}, {number(float(its['total'][-1]), decimals=3)}", _ratio(mine, its)
    if gain(results, other, "total").sign <= 0:
        return f"{first} has nothing to reach: {goal}, is not surely above the base"
    if ratio == 0:
        return f"{first} does not reach {goal}"
    pairs = [_ratio(mine, its) for mine, its in zip(seeds[first], seeds[other], strict=False)]
    each = ", ".join("–" if math.isnan(pair) else "not" if pair == 0 else f"{pair:.1f}" for pair in pairs)
    return f"{first} reaches {goal}, with {ratio:.1f} × fewer passes (seed by seed: {each})"


def _ratio(mine: Mapping[str, np.ndarray], its: Mapping[str, np.ndarray]) -> float:
    """Its passes / mine to its last total; 0 where mine never comes to it, nan where it is not above the base."""
    if its["total"][-1] <= its["total"][0]:
        return math.nan
    return float(its["passes"][-1] / passes_to_reach(mine["passes"], mine["total"], its["total"][-1]))


def _mean(seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.mean([seed[key] for seed in seeds], 0) for key in ("passes", "total", "judge_moa", "frechet")}


def race(results: Results, seeds: Seeds) -> bytes:
    """PNG: total and the judge of MoA against passes, mean and range of the seeds; distance against total.

    What collapses leaves the picture: a total further below the base than twice its way to real cells, a judge below
    three quarters of the base's.
    """
    figure = Figure(figsize=(15, 4.8), dpi=150, layout="constrained")
    total, judge, frontier = figure.subplots(1, 3)
    for (name, runs), (style, colour) in zip(seeds.items(), _looks(), strict=False):
        mean = _mean(runs)
        for axes, key in ((total, "total"), (judge, "judge_moa")):
            every = np.stack([run[key] for run in runs])  # (S, P)
            axes.plot(mean["passes"], mean[key], style, color=colour, marker="o", markersize=3, label=name)
            axes.fill_between(mean["passes"], every.min(0), every.max(0), color=colour, alpha=0.15, linewidth=0)
        frontier.plot(mean["total"], mean["frechet"], style, color=colour, marker="o", markersize=3)
        frontier.plot(mean["total"][-1], mean["frechet"][-1], "o", color=colour, markersize=8)
    base, real = results.base.figures(), results.real.figures()
    floor = {"total": base["total"] - 2 * abs(real["total"] - base["total"]), "judge_moa": 0.75 * base["judge_moa"]}
    for axes, key in ((total, "total"), (judge, "judge_moa")):
        axes.axhline(real[key], color="black", linestyle=":", linewidth=1, label="real cells")
        axes.set(xlabel="network passes", ylabel=key.replace("_", " "))
        axes.set_ylim(bottom=max(axes.get_ylim()[0], floor[key]))
    frontier.plot(real["total"], real["frechet"], "*", color="black", markersize=9)
    frontier.set(
        xlabel="total", ylabel="Fréchet distance", title="right and low is better; large: the end", yscale="log"
    )
    frontier.set_xlim(left=max(frontier.get_xlim()[0], floor["total"]))
    total.set_title("total reward, held-out contexts")
    judge.set_title("MoA, held-out judge")
    total.legend(frameon=False, fontsize=8)
    return finish(figure, (total, judge, frontier))


def heat(results: Results) -> bytes:
    """PNG: gains over the base, candidate by figure; colours compare inside a column."""
    names, moved = results.names(), [[gain(results, n, f) for f in FIGURES] for n in results.names()]
    mean = np.array([[i.mean for i in row] for row in moved])
    figure = Figure(figsize=(1.5 + 1.05 * len(FIGURES), 1.4 + 0.5 * len(names)), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(mean / np.abs(mean).max(0).clip(1e-9), cmap="RdBu", vmin=-1.4, vmax=1.4, aspect="auto")
    for row, intervals in enumerate(moved):
        for column, i in enumerate(intervals):
            text = number(i.mean, sign=True, decimals=3)
            axes.text(column, row, text, ha="center", va="center", weight="bold" if i.sign else "normal", fontsize=9)
    axes.set_xticks(range(len(FIGURES)), [f.replace("_", "\n") for f in FIGURES], fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="gain over the base: trained on the row, measured on the column; bold: the interval leaves 0")
    return finish(figure, ())


def _looks() -> Iterator[tuple[str, str]]:
    return cycle([(style, colour) for style in ("-", "--", ":") for colour in COLOURS])

"""Tables and pictures of a comparison. S seeds, n contexts, P points."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as RichTable

from algorithms.evaluation.charts import encode_png
from algorithms.evaluation.report import MARKS, number
from algorithms.evaluation.statistics import Interval
from algorithms.files import write_whole
from algorithms.terminal import STYLE
from examples.studies.multi_seed import crossed_interval, nfe_to_reach
from examples.studies.results import Curves, Results

COLOURS = ("#d1495b", "#3d5a9e", "#2e7d6b", "#c58b1b", "#7a5195", "#3fa7c4", "#8f5a3c", "#6b7280")
LINE_STYLES = ("-", "--", ":")

Curve = Mapping[str, NDArray[np.float64]]  # column -> (P,)


class TextTable(NamedTuple):
    """Rows and columns of text."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Markdown, the title in a paragraph of its own."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return f"{self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def transpose(self) -> "TextTable":
        """Rows as columns: narrower where there are more metrics than candidates."""
        head, *rows = (list(column) for column in zip(self.head, *self.rows, strict=True))
        return TextTable(self.title, head, rows)

    def terminal(self) -> RichTable:
        """Table for a rich console."""
        table = RichTable(*self.head, title=self.title, **STYLE)
        for row in self.rows:
            table.add_row(*row)
        return table


def write_report(
    results: Results,
    curves: Curves,
    folder: Path,
    *,
    label: str,
    baseline: str,
    notes: Sequence[str] = (),
    picture: bytes | None = None,
) -> None:
    """Print tables and notes, and write them to folder/table.md, and a picture to folder/picture.png.

    label: head of the candidates' column. baseline: candidate with which others are compared, if it is among them.
    picture: PNG; None plots the learning curves.
    """
    tables = [summary_table(results, label), gain_table(results, label)]
    if baseline in results.names():
        tables.append(gain_table(results, label, baseline))
    console = Console()
    for table in (tables[0], *(table.transpose() for table in tables[1:])):
        console.print(table.terminal())
    for note in notes:
        console.print(note, highlight=False)
    text = "\n".join([*(table.markdown() for table in tables), *(f"- {note}" for note in notes)])
    write_whole(folder / "table.md", f"{text}\n".encode())
    write_whole(folder / "picture.png", plot_learning_curves(results, curves) if picture is None else picture)


def summary_table(results: Results, label: str) -> TextTable:
    """Main figures of every candidate at the end, beside the base and real cells."""
    intervals, figures = {"total": 2, "judge_moa": 3, "judge_containment": 3}, ("frechet", "kernel", "diversity")
    head = [label, "iterations", "minutes", "total", "MoA, judge", "containment, judge"]
    head += ["gap closed, %", "Fréchet", "kernel", "diversity"]
    rows = []
    for name in results.names():
        ends = [run.points[-1] for run in results.of(name)]
        rows.append(
            [
                name,
                str(ends[0].iteration),
                number(float(np.mean([end.seconds for end in ends])) / 60, decimals=1),
                *(format_interval(crossed_interval(results.final(name, m)), decimals=d) for m, d in intervals.items()),
                spread([100 * results.gap_share(end.result) for end in ends], decimals=0),
                *(spread([end.result.figure(figure) for end in ends]) for figure in figures),
            ]
        )
    for name, result in (("base", results.base), ("real", results.real)):
        cells = [format_interval(crossed_interval(result.of(m)[None]), decimals=d) for m, d in intervals.items()]
        rows.append([name, "", "", *cells, "", *(spread([result.figure(figure)]) for figure in figures)])
    S = max(len(results.of(name)) for name in results.names())
    n = len(results.base.of("total"))
    over = f"{S} seeds and {n} contexts; of the others: lowest to highest seed" if S > 1 else f"{n} contexts; one seed"
    return TextTable(f"At the end; in brackets 95 % intervals over {over}", head, rows)


def spread(values: Sequence[float], *, sign: bool = False, decimals: int | None = None) -> str:
    """Mean over seeds and, of several, lowest and highest: "1.23 (1.00 to 1.46)"; a dash for undefined."""
    if not np.isfinite(values).all():
        return number(None)
    figures = float(np.mean(values)), min(values), max(values)
    mean, low, high = (number(x, sign=sign, decimals=decimals) for x in figures)
    return f"{mean} ({low} to {high})" if len(values) > 1 else mean


def gain_table(results: Results, label: str, over: str | None = None) -> TextTable:
    """Gain in every reward and judge over the base (None) or over another candidate, with marks of significance."""
    metrics = results.metrics()
    rows = []
    for name in results.names():
        if name != over:
            gains = [gain(results, name, metric, over) for metric in metrics]
            rows.append([name, *(f"{number(i.mean, sign=True, decimals=3)} {MARKS[i.sign]}" for i in gains)])
    head = [label, *(metric.replace("judge_", "judge: ").replace("_", " ") for metric in metrics)]
    return TextTable(f"Gain over {over or 'the base'}; ▲ ▼ where the 95 % interval leaves zero", head, rows)


def gain(results: Results, name: str, metric: str, over: str | None = None) -> Interval:
    """Paired gain: over the base (None) by context, over another candidate by seed and context."""
    reference = results.base.of(metric) if over is None else results.final(over, metric)
    return crossed_interval(results.final(name, metric) - reference)


def format_interval(interval: Interval, *, sign: bool = False, decimals: int = 2) -> str:
    """Mean and bounds: "1.23 (1.00, 1.46)"."""
    mean, low, high = (number(x, sign=sign, decimals=decimals) for x in interval)
    return f"{mean} ({low}, {high})"


def sample_efficiency(results: Results, curves: Curves, first: str, other: str) -> str:
    """A sentence: how many times fewer NFE `first` needs to reach the mean total at which `other` ends.

    If the other's gain over the base is not significant, there is no level to reach: the first step would do.
    """
    own, its = mean_curve(curves[first]), mean_curve(curves[other])
    goal = f"the final total of {other}, {number(float(its['total'][-1]), decimals=3)}"
    if gain(results, other, "total").sign <= 0:
        return f"{first} has nothing to reach: {goal}, is not significantly above the base"
    ratio = nfe_ratio(own, its)
    if ratio == 0:
        return f"{first} does not reach {goal}"
    ratios = [nfe_ratio(own, its) for own, its in zip(curves[first], curves[other], strict=False)]
    by_seed = ", ".join("–" if math.isnan(r) else "not" if r == 0 else f"{r:.1f}" for r in ratios)
    return f"{first} reaches {goal}, with {ratio:.1f} × fewer network evaluations (by seed: {by_seed})"


def nfe_ratio(own: Curve, other: Curve) -> float:
    """The other curve's NFE to its last total / own NFE to that total; 0 if never, nan if it is not above the base."""
    if other["total"][-1] <= other["total"][0]:
        return math.nan
    return float(other["nfe"][-1] / nfe_to_reach(own["nfe"], own["total"], other["total"][-1]))


def mean_curve(curves: Sequence[Curve]) -> dict[str, NDArray[np.float64]]:
    """Mean over seeds of the plotted columns."""
    return {key: np.mean([curve[key] for curve in curves], 0) for key in ("nfe", "total", "judge_moa", "frechet")}


def plot_learning_curves(results: Results, curves: Curves) -> bytes:
    """PNG: total and the MoA judge against NFE, mean and range of the seeds; Frechet distance against total.

    A collapse is cut off: totals further below the base than twice its gap to real cells, and judges below three
    quarters of the base's.
    """
    figure = Figure(figsize=(15, 4.8), dpi=150, layout="constrained")
    total, judge, frontier = figure.subplots(1, 3)
    for (name, seeds), (style, colour) in zip(curves.items(), _line_looks(), strict=False):
        mean = mean_curve(seeds)
        for axes, key in ((total, "total"), (judge, "judge_moa")):
            values = np.stack([seed[key] for seed in seeds])  # (S, P)
            axes.plot(mean["nfe"], mean[key], style, color=colour, marker="o", markersize=3, label=name)
            axes.fill_between(mean["nfe"], values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        frontier.plot(mean["total"], mean["frechet"], style, color=colour, marker="o", markersize=3)
        frontier.plot(mean["total"][-1], mean["frechet"][-1], "o", color=colour, markersize=8)
    base, real = results.base.means(), results.real.means()
    floor = {"total": base["total"] - 2 * abs(real["total"] - base["total"]), "judge_moa": 0.75 * base["judge_moa"]}
    for axes, key in ((total, "total"), (judge, "judge_moa")):
        axes.axhline(real[key], color="black", linestyle=":", linewidth=1, label="real cells")
        axes.set(xlabel="network evaluations", ylabel=key.replace("_", " "))
        axes.set_ylim(bottom=max(axes.get_ylim()[0], floor[key]))
    frontier.plot(real["total"], real["frechet"], "*", color="black", markersize=9)
    frontier.set(
        xlabel="total", ylabel="Fréchet distance", title="right and low is better; large: the end", yscale="log"
    )
    frontier.set_xlim(left=max(frontier.get_xlim()[0], floor["total"]))
    total.set_title("total reward, held-out contexts")
    judge.set_title("MoA, held-out judge")
    total.legend(frameon=False, fontsize=8)
    return encode_png(figure, (total, judge, frontier))


def plot_gains(results: Results) -> bytes:
    """PNG: gains over the base, candidates by metrics; colours compare within a column."""
    names, metrics = results.names(), results.metrics()
    gains = [[gain(results, name, metric) for metric in metrics] for name in names]
    means = np.array([[i.mean for i in row] for row in gains])
    figure = Figure(figsize=(1.5 + 1.05 * len(metrics), 1.4 + 0.5 * len(names)), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(means / np.abs(means).max(0).clip(1e-9), cmap="RdBu", vmin=-1.4, vmax=1.4, aspect="auto")
    for row, intervals in enumerate(gains):
        for column, i in enumerate(intervals):
            text = number(i.mean, sign=True, decimals=3)
            weight = "bold" if i.sign else "normal"
            axes.text(column, row, text, ha="center", va="center", weight=weight, fontsize=9)
    axes.set_xticks(range(len(metrics)), [metric.replace("_", "\n") for metric in metrics], fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="gain over the base: trained on the row, measured on the column; bold: the interval leaves 0")
    return encode_png(figure, ())


def _line_looks() -> Iterator[tuple[str, str]]:
    return cycle([(style, colour) for style in LINE_STYLES for colour in COLOURS])

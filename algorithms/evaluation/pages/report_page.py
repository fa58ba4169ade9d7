"""The page of an evaluation: its pictures first, then what they add up to. One self-contained HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithms.evaluation.charts import Chart, Line, histogram_chart, line_chart
from algorithms.evaluation.checks import verdict
from algorithms.evaluation.evaluated_cells import EvaluatedCells, mean_gain
from algorithms.evaluation.headline import NOTE, Pair, headline, shown_pairs
from algorithms.evaluation.pages.cards import GROUPS, cards
from algorithms.evaluation.pages.tracks import (
    class_gains,
    class_tracks,
    figure_text,
    gap_tracks,
    percent,
    violation_tracks,
)
from algorithms.evaluation.pages.training_curves import training_charts
from algorithms.evaluation.report import checks_of_rows, lines, notes, number, sections
from algorithms.evaluation.statistics import Figures, as_figure
from algorithms.evaluation.stored_run import BestOfNFile, StoredRun
from algorithms.files import write_whole
from algorithms.page import render_page

TONES = ("a", "b", "c", "d", "e")  # of trained and given rows, in turn
UNITS = {"nucleus_area_max": "px²", "cell_area_max": "px²"}  # of measures
LESS_IS_BETTER = ("frechet", "kernel", "w1_", "undefined")
MORE_IS_BETTER = ("diversity", "moa_accuracy")


class Worse(NamedTuple):
    """Something that got worse, with its figures. sure: its interval says so, for it excludes 0."""

    what: str
    figures: str
    sure: bool


def tones(rows: Mapping[str, Any] | list[str]) -> dict[str, str]:
    """The colour of each row: base, real, or one of five."""
    fixed = ("base", "real")
    others = [row for row in rows if row not in fixed]
    return {row: row if row in fixed else TONES[others.index(row) % len(TONES)] for row in rows}


def page(run: StoredRun, *, title: str = "Evaluation", phases: Mapping[str, float] | None = None) -> str:
    """An evaluation as one HTML page that needs no other file. phases: seconds by name, of the run behind it."""
    evaluation, cells, phases = run.evaluation, run.cells, phases or {}
    rows, colours, pairs = evaluation["rows"], tones(evaluation["rows"]), shown_pairs(evaluation)
    measured = [pair for pair in pairs if cells and {*pair} <= cells.values.keys()]
    return render_page(
        "evaluation/pages/report.html",
        title=title,
        rows=rows,
        tones=colours,
        summary=[summary(evaluation, pair) for pair in pairs],
        notes=notes(evaluation),
        headline=headline(evaluation),
        headline_note=NOTE,
        cards=cards(cells, evaluation) if cells else [],
        size=cells.size if cells else (1, 1),
        groups=GROUPS,
        shares=gap_tracks(evaluation, pairs, colours),
        mechanisms=class_tracks(cells, measured, colours) if cells else [],
        mechanism_pairs=[pair.title for pair in measured],
        worse={pair.title: what_got_worse(evaluation, pair, cells) for pair in pairs},
        violations=violation_tracks(cells, evaluation, colours) if cells else [],
        violation_rows=list(cells.values) if cells else [],
        distributions=distributions(cells, evaluation, colours) if cells else [],
        best_of_n=best_of_n_charts(run.best_of_n, colours) if run.best_of_n else [],
        training=training_charts(
            run.logs, colours, {reward["name"]: reward["label"] for reward in evaluation["rewards"]}
        ),
        training_rows={row: colours[row] for row in run.logs},
        pairs=[pair.title for pair in pairs],
        sections=[(section, found) for section in sections(evaluation) if (found := lines(section, evaluation))],
        checks=checks_of_rows(evaluation),
        config=evaluation["config"],
        phases=[(name, number(float(s)), 100 * s / sum(phases.values())) for name, s in phases.items()],
    )


def save_page(content: str, path: str | Path) -> None:
    """Write a page: a whole file or none."""
    write_whole(path, content.encode())


def summary(evaluation: Figures, pair: Pair) -> str:
    """What a training did, in a sentence."""
    new, old = (number(evaluation["rows"][row]["total"]["mean"]) for row in pair)
    gain = figure_text(evaluation["paired"][pair.key]["total"])
    text = f"{pair.row}: total reward {old} → {new}, {gain.figure} over {pair.baseline}"
    text += f" ({gain.span})" if gain.span else ""
    closed = evaluation.get("gap", {}).get(pair.key, {}).get("share", {"mean": None})["mean"]
    return text if closed is None else f"{text}; {percent(closed)} of the gap to real cells"


def distributions(cells: EvaluatedCells, evaluation: Figures, colours: Mapping[str, str]) -> list[Chart]:
    """A histogram of each measure, and of each reward that is a probability or a share, with a curve a row."""
    charts = []
    for reward in evaluation["rewards"]:
        name, source = reward["name"], None
        if reward["measure"] and all(name in row for row in cells.measures.values()):
            source, unit = f"measure/{name}", UNITS.get(reward["measure"], "")
        elif reward["unit"] in ("probability", "share"):
            source, unit = name, reward["unit"]
        if source is None:
            continue
        values = {row: cells.of(row, source).ravel() for row in cells.values}
        distance = [(row, evaluation["rows"][row].get(f"w1_{name}")) for row in cells.values]
        means = "; ".join(f"{row} {number(x)} σ" for row, x in distance if x is not None)
        title = f"{reward['label']}, {unit}" if unit else reward["label"]
        chart = histogram_chart(title, values, colours, note=f"distance to real: {means}" if means else "")
        charts += [chart] if chart else []
    return charts


def best_of_n_charts(found: BestOfNFile, colours: Mapping[str, str]) -> list[Chart]:
    """The reward that selects, and the judges, which do not, against N."""
    about, curve = found.about, found.curve
    scorer = about["config"].get("scorer", "total")
    panels = {scorer: f"{scorer}, which selects"}
    panels |= {f"judge_{r['name']}": f"{r['label']}, held-out judge" for r in about["rewards"] if r["judge"]}
    charts = []
    for name, title in panels.items():
        drawn = []
        for row, at in curve.rows.items():
            figures = [figures[name] for figures in at if name in figures]
            if len(figures) == len(curve.n):
                low, high = (np.array([figure.ci[end] for figure in figures], np.float64) for end in (0, 1))
                mean = np.array([figure.mean for figure in figures], np.float64)
                drawn.append(Line(row, colours.get(row, "e"), curve.n, mean, band=(low, high)))
        real = about["rows"].get("real", {}).get(name, {}).get("mean")
        charts += [line_chart(title, drawn, note="best of N", log_x=True, rule=real)] if drawn else []
    return charts


def what_got_worse(evaluation: Figures, pair: Pair, cells: EvaluatedCells | None = None) -> list[Worse]:
    """Figures that are worse than the baseline's, those of rewards and classes only if their interval says so."""
    gain, found = evaluation["paired"][pair.key], []
    labels = {name: label for section in sections(evaluation) for name, label in section.figures.items()}
    for name, figure in gain.items():
        if name not in labels:
            continue
        if isinstance(figure, Mapping):
            if verdict(name, figure, evaluation["rewards"]) < 0:
                found.append(Worse(labels[name], _in_one(figure), True))
        elif figure is not None and _worse_number(name, figure):
            old, new = (evaluation["rows"][row].get(name) for row in reversed(pair))
            found.append(Worse(labels[name], f"{number(old)} → {number(new)}", False))
    if cells is not None and {*pair} <= cells.values.keys():
        for name, interval in class_gains(cells, pair).items():
            if interval.high < 0:
                found.append(Worse(f"total of {name}", _in_one(as_figure(interval)), True))
        gains = mean_gain(cells, *pair)
        known = gains[np.isfinite(gains)]
        if lost := int((known < 0).sum()):
            share = f"{lost} of {len(known)}, {percent(lost / len(known))}"
            found.append(Worse("contexts with a lower total", share, False))
    return found


def _in_one(figure: Figures) -> str:
    text = figure_text(figure)
    return f"{text.figure} ({text.span})"


def _worse_number(name: str, change: float) -> bool:
    return (change > 0 and name.startswith(LESS_IS_BETTER)) or (change < 0 and name.startswith(MORE_IS_BETTER))

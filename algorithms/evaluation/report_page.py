"""The page of an evaluation: its pictures first, then what they add up to. One self-contained HTML file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from algorithms.evaluation.cards import GROUPS, cards
from algorithms.evaluation.charts import Chart, Line, histogram_chart, line_chart
from algorithms.evaluation.checks import Figures
from algorithms.evaluation.evaluated_cells import EvaluatedCells, mean_gain
from algorithms.evaluation.headline import NOTE, Pair, headline, shown_pairs
from algorithms.evaluation.report import checks_of_rows, lines, number, sections, unpaired_note
from algorithms.evaluation.statistics import Interval, bootstrap_counts, mean_interval
from algorithms.evaluation.stored_run import BestOfNFile, StoredRun
from algorithms.evaluation.training_curves import training_charts
from algorithms.evaluation.violations import violation_shares
from algorithms.files import write_whole
from algorithms.page import render_page

TONES = ("a", "b", "c", "d", "e")  # of trained and given rows, in turn
UNITS = {"nucleus_area_max": "px²", "cell_area_max": "px²"}  # of measures
LESS_IS_BETTER = ("frechet", "kernel", "w1_", "undefined")
MORE_IS_BETTER = ("diversity", "moa_accuracy")


class Mark(NamedTuple):
    """A figure on a track: position in percent, ends of its interval, colour."""

    tone: str
    at: float
    span: tuple[float, float] | None = None


class Track(NamedTuple):
    """A line of a list of figures on one axis. texts: (figure, its interval); sign: of an interval without zero."""

    label: str
    texts: list[tuple[str, str]]
    marks: list[Mark]
    note: str = ""  # on the label
    sign: int = 0


class Worse(NamedTuple):
    """Something that got worse, with its figures. sure: its interval lies below zero."""

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
    return render_page(
        "evaluation/report.html",
        title=title,
        rows=rows,
        tones=colours,
        summary=[summary(evaluation, pair) for pair in pairs],
        unpaired_note=unpaired_note(evaluation),
        headline=headline(evaluation),
        headline_note=NOTE,
        cards=cards(cells, evaluation) if cells else [],
        size=cells.size if cells else (1, 1),
        groups=GROUPS,
        shares={pair.title: tracks for pair in pairs if (tracks := gap_tracks(evaluation, pair, colours))},
        mechanisms={pair.title: class_tracks(cells, pair, colours) for pair in pairs} if cells else {},
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
    gain, span = _texts(evaluation["paired"][pair.key]["total"])
    text = f"{pair.row}: total reward {old} → {new}, {gain} over {pair.baseline}"
    closed = evaluation.get("gap", {}).get(pair.key, {}).get("share", {"mean": None})["mean"]
    text += f" ({span})" if span else ""
    return text if closed is None else f"{text}; {_percent(closed)} of the gap to real cells"


def gap_tracks(evaluation: Figures, pair: Pair, colours: Mapping[str, str]) -> list[Track]:
    """Of all rewards, each reward and each judge: the share of the way from the baseline to real cells."""
    if "gap" not in evaluation or pair.key not in evaluation["gap"]:
        return []
    gap = evaluation["gap"][pair.key]
    wanted = [("all rewards", gap["share"])]
    for reward in evaluation["rewards"]:
        for name, suffix in ((reward["name"], ""), (f"judge_{reward['name']}", ", judge")):
            if name in gap["own"]:
                wanted.append((reward["label"] + suffix, gap["own"][name]))
    return [
        Track(
            label,
            [_share_texts(share)],
            [Mark("base", 100 / 3), Mark("real", 100.0), *_marks(share, colours[pair.row], -0.5, 1.0)],
            sign=_sign(share),
        )
        for label, share in wanted
    ]


def class_tracks(cells: EvaluatedCells, pair: Pair, colours: Mapping[str, str]) -> list[Track]:
    """The gain in total of each class, with its interval over the contexts of the class, largest first."""
    if not {*pair} <= cells.values.keys():
        return []
    gains, member = mean_gain(cells, *pair), np.array(cells.classes)
    found = {name: _interval(gains[member == name]) for name in dict.fromkeys(sorted(cells.classes))}
    reach = max((abs(x) for interval in found.values() for x in interval if math.isfinite(x)), default=1.0) or 1.0
    found = dict(sorted(found.items(), key=lambda item: -np.nan_to_num(item[1].mean)))
    return [
        Track(
            name,
            [_texts(_figure(interval))],
            [Mark("base", 50.0), *_marks(_figure(interval), colours[pair.row], -reach, reach)],
            note=f"{(n := int((member == name).sum()))} context{'s' * (n > 1)}",
            sign=interval.sign,
        )
        for name, interval in found.items()
    ]


def violation_tracks(cells: EvaluatedCells, evaluation: Figures, colours: Mapping[str, str]) -> list[Track]:
    """Of each reward the share of images that are far off, in all rows."""
    shares = violation_shares(cells, evaluation["rewards"])
    labels = {reward["name"]: reward["label"] for reward in evaluation["rewards"]}
    most = max((share for row in shares.values() for share in row.values() if math.isfinite(share)), default=0) or 1
    return [
        Track(
            labels[name],
            [(_percent(share) if math.isfinite(share) else "–", "") for share in row.values()],
            [Mark(colours[key], 100 * share / most) for key, share in row.items() if math.isfinite(share)],
        )
        for name, row in shares.items()
    ]


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
        if isinstance(figure, Mapping):
            if name in labels and (high := figure["ci"][1]) is not None and high < 0:
                found.append(Worse(labels[name], _in_one(figure), True))
        elif figure is not None and name in labels and _worse_number(name, figure):
            old, new = (evaluation["rows"][row].get(name) for row in reversed(pair))
            found.append(Worse(labels[name], f"{number(old)} → {number(new)}", False))
    if cells is not None and {*pair} <= cells.values.keys():
        gains, member = mean_gain(cells, *pair), np.array(cells.classes)
        for name in sorted(set(cells.classes)):
            if (interval := _interval(gains[member == name])).high < 0:
                found.append(Worse(f"total of {name}", _in_one(_figure(interval)), True))
        known = gains[np.isfinite(gains)]
        if len(known) and (lost := int((known < 0).sum())):
            share = f"{lost} of {len(known)}, {_percent(lost / len(known))}"
            found.append(Worse("contexts with a lower total", share, False))
    return found


def _worse_number(name: str, change: float) -> bool:
    return (change > 0 and name.startswith(LESS_IS_BETTER)) or (change < 0 and name.startswith(MORE_IS_BETTER))


def _interval(values: NDArray[np.float64]) -> Interval:
    """Mean over contexts; one context has no interval."""
    if len(values) < 2:
        return Interval(float(values.mean()), np.nan, np.nan)
    return mean_interval(values, bootstrap_counts(len(values), np.random.default_rng(0), count=1000))


def _figure(interval: Interval) -> Figures:
    mean, low, high = (value if math.isfinite(value) else None for value in interval)
    return {"mean": mean, "ci": [low, high]}


def _texts(figure: Figures) -> tuple[str, str]:
    """Mean, and interval or nothing."""
    mean, low, high = (number(x, sign=True, decimals=3) for x in (figure["mean"], *figure["ci"]))
    return mean, "" if None in figure["ci"] else f"{low} to {high}"


def _in_one(figure: Figures) -> str:
    mean, span = _texts(figure)
    return f"{mean} ({span})" if span else mean


def _share_texts(share: Figures) -> tuple[str, str]:
    """A share of the gap in percent, and its interval; a dash where real cells are not above the baseline."""
    if share["mean"] is None:
        return "–", "no gap"
    return _percent(share["mean"]), "" if None in share["ci"] else " to ".join(map(_percent, share["ci"]))


def _percent(share: float) -> str:
    return f"{100 * share + 0.0:.0f}\N{NO-BREAK SPACE}%".replace("-", "−")


def _sign(figure: Figures) -> int:
    low, high = (0.0 if value is None else value for value in figure["ci"])
    return int(low > 0) - int(high < 0)


def _marks(figure: Figures, tone: str, low: float, high: float) -> list[Mark]:
    """The mark of a figure on an axis, clipped to its ends; none for an undefined one."""
    if figure["mean"] is None:
        return []

    def at(value: float) -> float:
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0)

    span = None if None in figure["ci"] else (at(figure["ci"][0]), at(figure["ci"][1]))
    return [Mark(tone, at(figure["mean"]), span)]

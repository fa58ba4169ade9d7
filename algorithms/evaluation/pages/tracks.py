"""Figures as marks on one axis a line: a ring for the base, a dot for each trained row, a bar for real cells."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from algorithms.evaluation.evaluated_cells import EvaluatedCells, mean_gain
from algorithms.evaluation.headline import Pair
from algorithms.evaluation.pages.violations import violation_shares
from algorithms.evaluation.report import number
from algorithms.evaluation.statistics import Figures, Interval, as_figure, bootstrap_counts, mean_interval

LOWEST = -0.5  # share of the gap at the left end of an axis, whose right end is real cells
RESAMPLES = 1000  # of the contexts of a class

Tones = Mapping[str, str]  # the colour of each row


class Mark(NamedTuple):
    """A figure on a track: colour, position in percent, ends of its interval. lane: its height in percent."""

    tone: str
    at: float
    span: tuple[float, float] | None = None
    lane: float = 50.0


class Text(NamedTuple):
    """A figure and its interval as text; sign of an interval that excludes zero."""

    figure: str
    span: str = ""
    sign: int = 0


class Track(NamedTuple):
    """A line of a list of figures: a text for each column, marks on one axis, a note on the label."""

    label: str
    texts: list[Text]
    marks: list[Mark]
    note: str = ""


def gap_tracks(evaluation: Figures, pairs: Sequence[Pair], tones: Tones) -> list[Track]:
    """Of all rewards, each reward and each judge: the share of the way to real cells that each pair has gone."""
    if not pairs or any(pair.key not in evaluation.get("gap", {}) for pair in pairs):
        return []
    gaps = [evaluation["gap"][pair.key] for pair in pairs]
    wanted = [("all rewards", [gap["share"] for gap in gaps])]
    for reward in evaluation["rewards"]:
        for name, suffix in ((reward["name"], ""), (f"judge_{reward['name']}", ", judge")):
            if all(name in gap["own"] for gap in gaps):
                wanted.append((reward["label"] + suffix, [gap["own"][name] for gap in gaps]))
    ends = [Mark("base", _at(0.0, LOWEST, 1.0)), Mark("real", 100.0)]
    return [
        Track(label, [share_text(share) for share in shares], [*ends, *_marks(shares, pairs, tones, LOWEST, 1.0)])
        for label, shares in wanted
    ]


def class_tracks(cells: EvaluatedCells, pairs: Sequence[Pair], tones: Tones) -> list[Track]:
    """The gain in total of each class, with its interval over the contexts of the class, largest of all first."""
    if not pairs or any(not {*pair} <= cells.values.keys() for pair in pairs):
        return []
    found = [class_gains(cells, pair) for pair in pairs]
    ends = [abs(x) for gains in found for interval in gains.values() for x in interval if math.isfinite(x)]
    reach, counts = max(ends, default=1.0) or 1.0, {name: cells.classes.count(name) for name in cells.classes}
    tracks = []
    for name in sorted(found[0], key=lambda name: -float(np.nan_to_num(found[0][name].mean))):
        figures = [as_figure(gains[name]) for gains in found]
        marks = [Mark("base", 50.0), *_marks(figures, pairs, tones, -reach, reach)]
        note = f"{counts[name]} context{'s' * (counts[name] > 1)}"
        tracks.append(Track(name, [figure_text(figure) for figure in figures], marks, note))
    return tracks


def violation_tracks(cells: EvaluatedCells, evaluation: Figures, tones: Tones) -> list[Track]:
    """Of each reward the share of images that are far off, in all rows."""
    shares = violation_shares(cells, evaluation["rewards"])
    labels = {reward["name"]: reward["label"] for reward in evaluation["rewards"]}
    most = max((share for row in shares.values() for share in row.values() if math.isfinite(share)), default=0) or 1
    return [
        Track(
            labels[name],
            [Text(percent(share) if math.isfinite(share) else "–") for share in row.values()],
            [Mark(tones[key], 100 * share / most) for key, share in row.items() if math.isfinite(share)],
        )
        for name, row in shares.items()
    ]


def class_gains(cells: EvaluatedCells, pair: Pair) -> dict[str, Interval]:
    """The gain in total of each class; a class of one context has no interval."""
    gains, member = mean_gain(cells, *pair), np.array(cells.classes)
    found = {}
    for name in sorted({*cells.classes}):
        own = gains[member == name]
        counts = bootstrap_counts(len(own), np.random.default_rng(0), count=RESAMPLES)
        found[name] = mean_interval(own, counts) if len(own) > 1 else Interval(float(own[0]), np.nan, np.nan)
    return found


def figure_text(figure: Figures) -> Text:
    """A difference, with its interval if it has one."""
    mean, low, high = (number(x, sign=True, decimals=3) for x in (figure["mean"], *figure["ci"]))
    return Text(mean, "" if None in figure["ci"] else f"{low} to {high}", Interval.of(figure).sign)


def share_text(share: Figures) -> Text:
    """A share of the gap in percent; a dash where real cells are not above the baseline."""
    if share["mean"] is None:
        return Text("–", "no gap")
    span = "" if None in share["ci"] else " to ".join(map(percent, share["ci"]))
    return Text(percent(share["mean"]), span, Interval.of(share).sign)


def percent(share: float) -> str:
    """A share as text."""
    return f"{round(100 * share) + 0}\N{NO-BREAK SPACE}%".replace("-", "−")


def _at(value: float, low: float, high: float) -> float:
    """Position in percent on an axis, clipped to its ends."""
    return 100 * min(max((value - low) / (high - low), 0.0), 1.0)


def _marks(figures: Sequence[Figures], pairs: Sequence[Pair], tones: Tones, low: float, high: float) -> list[Mark]:
    """The marks of figures on an axis, one of each pair in a lane of its own; none for an undefined one."""
    marks = []
    for i, (figure, pair) in enumerate(zip(figures, pairs, strict=True)):
        if figure["mean"] is not None:
            start, end = figure["ci"]
            span = None if None in figure["ci"] else (_at(start, low, high), _at(end, low, high))
            lane = 100 * (i + 1) / (len(pairs) + 1)
            marks.append(Mark(tones[pair.row], _at(figure["mean"], low, high), span, lane))
    return marks

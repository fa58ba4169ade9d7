"""An evaluation for people: a table for the terminal, and one self-contained HTML page."""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from rich import box
from rich.table import Table

from algorithms.files import write_whole
from algorithms.verdict import CONTROLS, REWARDS, Check, verdict
from cellenv.pictures import png

STYLE = {"title_justify": "left", "caption_justify": "left", "box": box.SIMPLE, "pad_edge": False}
TONES = {1: "green", -1: "red", 0: "dim"}
MARKS = {1: "▲", -1: "▼", 0: "·"}  # significantly better, worse, neither


class Section(NamedTuple):
    """Figures of one unit, label by name. More is better where a figure has an interval: a reward or a judge."""

    title: str
    note: str
    figures: Mapping[str, str]


MORPHOLOGY = {name: name.replace("_", " ") for name in REWARDS if name not in ("moa", "containment")}
SECTIONS = (
    Section("Total reward", "weighted sum of the seven rewards", {"total": "total"}),
    Section(
        "Function and structure",
        "probability or share, 0 to 1; the judges took no part in training",
        {
            "moa": "MoA",
            "judge_moa": "MoA, judge",
            "containment": "containment",
            "judge_containment": "containment, judge",
        },
    ),
    Section("Morphology", "z-score rewards, 0 is the mean real cell of the MoA; real cells earn about −1", MORPHOLOGY),
    Section(
        "Distance to real cells",
        "less is better; Fréchet and kernel in the judge's features, W1 in σ of real cells of the MoA",
        {"frechet": "Fréchet", "kernel": "kernel", "frechet_inception": "FID", "kernel_inception": "KID"}
        | {f"w1_{name}": f"W1 {label}" for name, label in MORPHOLOGY.items()}
        | {"w1_mean": "W1, mean"},
    ),
    Section(
        "Variety and recognition",
        "",
        {
            "diversity": "diversity in group",
            "moa_accuracy": "accuracy, judge",
            "undefined": "undefined measures",
        },
    ),
)


class Difference(NamedTuple):
    """A paired difference as drawn: its text, interval text, tone (+1 good, -1 bad, 0 unsure), and bar in percent."""

    text: str
    span: str
    tone: int
    mark: str
    bar: tuple[float, float, float] | None  # left end, mean, right end; 50 is zero


class Line(NamedTuple):
    """One figure across all rows: (mean, interval) of each row, then its differences."""

    label: str
    cells: list[tuple[str, str]]
    differences: list[Difference]


class Gallery(NamedTuple):
    """Pictures by column (control, base, rl, real, ...), (k, H, W, 3) uint8 each, and k labels."""

    labels: Sequence[str]
    columns: Mapping[str, np.ndarray]


def number(value: float | None, *, sign: bool = False, decimals: int | None = None) -> str:
    """Given decimals, or three significant digits; a true minus sign; a dash for undefined."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    if decimals is None:
        decimals = min(6, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0
    value = round(value, decimals) + 0.0  # no minus before a zero
    return f"{value:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def lines(section: Section, evaluation: Mapping) -> list[Line]:
    """The lines of a section; figures that no row has are left out."""
    rows, paired = evaluation["rows"], shown_pairs(evaluation)
    present = {name: label for name, label in section.figures.items() if any(name in row for row in rows.values())}
    bounds = [
        abs(bound) for name in present for pair in paired for bound in _ends(evaluation["paired"][pair].get(name))
    ]
    reach = max(bounds, default=0)  # one axis a section
    return [
        Line(
            label,
            [_cell(row.get(name)) for row in rows.values()],
            [_difference(evaluation["paired"][pair].get(name), reach) for pair in paired],
        )
        for name, label in present.items()
    ]


def shown_pairs(evaluation: Mapping) -> list[str]:
    """The paired differences worth a column: all but that of real images."""
    return [name for name in evaluation["paired"] if not name.startswith("real-")]


def aside(evaluation: Mapping) -> str:
    """What a reader must know about rows that are paired with nothing; empty where there is none."""
    rows, paired = evaluation["rows"], evaluation["paired"]
    own = [f"{row} ({rows[row]['n_contexts']})" for row in rows if row != "base" and f"{row}-base" not in paired]
    if not own:
        return ""
    return (
        f"On contexts of its own: {', '.join(own)}. No difference to base can be paired, and distances are to as many "
        "real images of its own compounds: read such a row by itself."
    )


def tables(evaluation: Mapping) -> list[Table]:
    """For the terminal: figures by row, then the verdict on each trained row. Print them with a rich console.

    The intervals of the differences are shown when there is one difference; with more the lines would break.
    """
    pairs = shown_pairs(evaluation)
    n = next(iter(evaluation["rows"].values()))["n_contexts"]
    legend = "▲ better, ▼ worse, · neither: 95 % interval of the paired difference"
    caption = "\n".join(filter(None, [legend if pairs else "", aside(evaluation)]))
    table = Table(title=f"Evaluation on {n} held-out contexts", caption=caption or None, **STYLE)
    table.add_column("")
    for name in (*evaluation["rows"], *(pair.replace("-base", " − base") for pair in pairs)):
        table.add_column(name, justify="right")
    for section in SECTIONS:
        for line in lines(section, evaluation):
            differences = (
                f"[{TONES[d.tone]}]{d.text} {d.span if len(pairs) == 1 else ''} {d.mark}" for d in line.differences
            )
            table.add_row(line.label, *(mean for mean, _ in line.cells), *(" ".join(d.split()) for d in differences))
        table.add_section()
    return [table, *(_verdict_table(row, checks) for row, checks in verdicts(evaluation).items())]


def _verdict_table(row: str, checks: Sequence[Check]) -> Table:
    table = Table(title=f"{row}: what it had to reach", show_header=False, **STYLE)
    for check in checks:
        answer = {True: "[green]yes", False: "[red]no", None: "[dim]–"}[check.kept]
        table.add_row(answer, check.promise, check.figures)
    return table


def verdicts(evaluation: Mapping) -> dict[str, list[Check]]:
    """The verdict on every row that was trained to be better: not the baseline, real, a control, or given images."""
    trained = [pair.removesuffix("-base") for pair in shown_pairs(evaluation) if pair.endswith("-base")]
    others = {*CONTROLS, *evaluation["config"].get("images", ())}
    return {row: verdict(evaluation, row) for row in trained if row not in others}


def page(
    evaluation: Mapping, gallery: Gallery | None = None, *, title: str = "Evaluation", phases: Mapping | None = None
) -> str:
    """The evaluation as one HTML page that needs no other file. phases: seconds by name, of the run behind it."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        rows=evaluation["rows"],
        aside=aside(evaluation),
        pairs=[pair.replace("-base", " − base") for pair in shown_pairs(evaluation)],
        sections=[(section, found) for section in SECTIONS if (found := lines(section, evaluation))],
        verdicts=verdicts(evaluation),
        config=evaluation["config"],
        columns=list(gallery.columns) if gallery else [],
        cards=_cards(gallery) if gallery else [],
        phases=[(name, number(float(s)), 100 * s / sum(phases.values())) for name, s in (phases or {}).items()],
    )


def save_page(content: str, path: str | Path) -> None:
    """Write evaluation.html: a whole file or none."""
    write_whole(path, content.encode())


def _cards(gallery: Gallery) -> list[tuple[str, list[str]]]:
    """For each label its pictures as data addresses, in the order of the columns."""
    if any(len(pictures) != len(gallery.labels) for pictures in gallery.columns.values()):
        came = {name: len(pictures) for name, pictures in gallery.columns.items()}
        raise ValueError(f"need {len(gallery.labels)} pictures in each column, one a label; got {came}")
    coded = [
        [f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}" for picture in pictures]
        for pictures in gallery.columns.values()
    ]
    return list(zip(gallery.labels, map(list, zip(*coded, strict=True)), strict=True))


def _ends(figure: Mapping | float | None) -> list[float]:
    """The ends of an interval; nothing for a bare number."""
    return [bound for bound in figure["ci"] if bound is not None] if isinstance(figure, Mapping) else []


def _cell(figure: Mapping | float | None) -> tuple[str, str]:
    """Mean and interval as text."""
    if not isinstance(figure, Mapping):
        return number(figure), ""
    mean, low, high = (number(value, decimals=3) for value in (figure["mean"], *figure["ci"]))
    return mean, f"{low} to {high}"


def _difference(figure: Mapping | float | None, reach: float) -> Difference:
    """A paired difference; one without an interval gets no mark."""
    if len(_ends(figure)) < 2:
        value = figure["mean"] if isinstance(figure, Mapping) else figure
        return Difference(number(value, sign=True), "", 0, "", None)
    values = figure["ci"][0], figure["mean"], figure["ci"][1]
    tone = (values[0] > 0) - (values[2] < 0)
    low, mean, high = (number(value, sign=True, decimals=3) for value in values)
    bar = tuple(50 + 48 * value / (reach or 1) for value in values)
    return Difference(mean, f"({low}, {high})", tone, MARKS[tone], bar)

"""An evaluation as tables: the lines of terminal and page, with the differences as text and as bars."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from algorithms.evaluation.checks import CONTROLS, Check, acceptance_checks, verdict
from algorithms.evaluation.headline import NOTE, Pair, headline, shown_pairs
from algorithms.evaluation.statistics import Figures
from algorithms.terminal import STYLE

TONES = {1: "green", -1: "red", 0: "dim"}
MAX_COLUMNS = 7  # of rows and differences in one table of the terminal
MARKS = {1: "▲", -1: "▼", 0: "·"}  # significantly better, worse, neither


class Section(NamedTuple):
    """Figures of one unit, label by name; those of rewards and judges have an interval."""

    title: str
    note: str
    figures: Mapping[str, str]


FUNCTION = ("Function and structure", "probability or share, 0 to 1; the judges took no part in training")
MORPHOLOGY = ("Morphology", "z-score rewards, 0 is the mean of the real cells compared with; these earn about −1")
FURTHER = ("Further rewards", "given with --reward, in their own units")
REWARD_SECTIONS = {"probability": FUNCTION, "share": FUNCTION, "z-score reward": MORPHOLOGY}  # by the reward's unit


def sections(evaluation: Figures) -> list[Section]:
    """The sections of the table: total, rewards by unit, distances, variety, cost."""
    rewards = evaluation["rewards"]
    found = [Section("Total reward", "weighted sum of the rewards", {"total": "total"})]
    grouped: dict[tuple[str, str], dict[str, str]] = {}
    for reward in rewards:
        figures = grouped.setdefault(REWARD_SECTIONS.get(reward["unit"], FURTHER), {})
        figures[reward["name"]] = reward["label"]
        if reward["judge"]:
            figures[f"judge_{reward['name']}"] = f"{reward['label']}, judge"
    found += [Section(title, note, figures) for (title, note), figures in grouped.items()]
    measured = {f"w1_{reward['name']}": f"W1 {reward['label']}" for reward in rewards if reward["measure"]}
    found.append(
        Section(
            "Distance to real cells",
            "less is better; Fréchet and kernel in the judge's features, W1 in σ of the real cells compared with",
            {"frechet": "Fréchet", "kernel": "kernel", "frechet_inception": "FID", "kernel_inception": "KID"}
            | measured
            | {"w1_mean": "W1, mean"},
        )
    )
    variety = {"diversity": "diversity in group", "moa_accuracy": "accuracy, judge", "undefined": "undefined measures"}
    cost = Section("Cost", "evaluations of the network for one image; guidance adds one where it acts", {"nfe": "NFE"})
    note = "diversity: between two images of one context, of real cells between two of one compound"
    return [*found, Section("Variety and recognition", note, variety), cost]


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


def lines(section: Section, evaluation: Figures) -> list[Line]:
    """The lines of a section; figures that no row has are left out."""
    rows, rewards = evaluation["rows"], evaluation["rewards"]
    differences = [evaluation["paired"][pair.key] for pair in shown_pairs(evaluation)]
    present = {name: label for name, label in section.figures.items() if any(name in row for row in rows.values())}
    bounds = [abs(bound) for name in present for found in differences for bound in _ends(found.get(name))]
    reach = max(bounds, default=0)  # one axis a section
    return [
        Line(
            label,
            [_cell(row.get(name)) for row in rows.values()],
            [_difference(name, found.get(name), rewards, reach) for found in differences],
        )
        for name, label in present.items()
    ]


def notes(evaluation: Figures) -> str:
    """Caption: which rows have no paired baseline, and what is absent without a judge; empty where nothing is."""
    return "\n".join(filter(None, [_unpaired_note(evaluation), _judge_note(evaluation)]))


def _judge_note(evaluation: Figures) -> str:
    if any("frechet" in row for row in evaluation["rows"].values()):
        return ""
    return (
        "No judge knows these cells: no Fréchet and kernel distance, no diversity. `cellfluxrl fit classifier --model "
        "judge --label COLUMN`, with the column of the compound, fits one for --judge."
    )


def _unpaired_note(evaluation: Figures) -> str:
    rows, paired = evaluation["rows"], evaluation["paired"]
    own = [f"{row} ({rows[row]['n_contexts']})" for row in rows if row != "base" and f"{row}-base" not in paired]
    if not own:
        return ""
    return (
        f"On contexts of its own: {', '.join(own)}. No difference to base can be paired, and distances are to as many "
        "real images of its own compounds: read such a row by itself."
    )


def tables(evaluation: Figures) -> list[Table]:
    """For the terminal: shares of the gap, figures, the checks of each trained row. Print them with a rich console."""
    checks = [_checks_table(row, found) for row, found in checks_of_rows(evaluation).items()]
    return [*_headline_tables(evaluation), *figure_tables(evaluation), *checks]


def figure_tables(evaluation: Figures) -> list[Table]:
    """Figures by row and the differences of pairs of rows: in one table, or in two where one would be too wide.

    The intervals of the differences are shown when there is one difference; with more the lines would break.
    """
    rows, pairs = list(evaluation["rows"]), shown_pairs(evaluation)
    n = next(iter(evaluation["rows"].values()))["n_contexts"]
    title = f"Evaluation on {n} held-out contexts"
    legend = "▲ better, ▼ worse, · neither: 95 % interval of the paired difference" if pairs else ""
    note = notes(evaluation)
    if len(rows) + len(pairs) <= MAX_COLUMNS:
        return [_figure_table(evaluation, title, rows, pairs, caption="\n".join(filter(None, [legend, note])))]
    return [
        _figure_table(evaluation, title, rows, [], caption=note),
        _figure_table(evaluation, "Paired differences", [], pairs, caption=legend),
    ]


def _figure_table(
    evaluation: Figures, title: str, rows: Sequence[str], pairs: Sequence[Pair], *, caption: str
) -> Table:
    """Figures of these rows and pairs, section by section."""
    table = Table(title=title, caption=caption or None, **STYLE)
    table.add_column("")
    for name in (*rows, *(pair.title for pair in pairs)):
        table.add_column(name, justify="right")
    for section in sections(evaluation):
        for line in lines(section, evaluation):
            means = [mean for mean, _ in line.cells] if rows else []
            spans = len(pairs) == 1
            differences = [
                Text(" ".join([d.text, *([d.span] * spans), d.mark]), TONES[d.tone]) for d in line.differences if pairs
            ]
            table.add_row(line.label, *means, *differences)
        table.add_section()
    return table


def _headline_tables(evaluation: Figures) -> list[Table]:
    """One table, or none without real images."""
    found = headline(evaluation)
    if not found.lines:
        return []
    table = Table(title="Share of the gap to real cells that is closed", caption=NOTE, **STYLE)
    for name in ("", *found.columns):
        table.add_column(name, justify="right" if name else "left")
    for title, shares in found.lines.items():
        table.add_row(title, *shares)
    return [table]


def _checks_table(row: str, checks: Sequence[Check]) -> Table:
    table = Table(title=f"{row}: acceptance checks", show_header=False, **STYLE)
    for check in checks:
        text, tone = {True: ("yes", "green"), False: ("no", "red"), None: ("–", "dim")}[check.passed]
        table.add_row(Text(text, tone), check.criterion, check.figures)
    return table


def checks_of_rows(evaluation: Figures) -> dict[str, list[Check]]:
    """The checks of every row that was trained to improve: not real, a control, given images, or the base itself.

    The baseline is the base by the same sampler, if there is such a row, so that only training makes the difference.
    """
    config, baselines = evaluation["config"], evaluation["baselines"]
    others = {*CONTROLS, *config.get("images", ()), *config.get("base by other samplers", ())}
    pairs = [pair for pair in shown_pairs(evaluation) if pair.row not in others]
    checked = [pair for pair in pairs if pair.baseline == baselines.get(pair.row, "base")]
    return {
        pair.row if pair.baseline == "base" else pair.title: acceptance_checks(evaluation, *pair) for pair in checked
    }


def _ends(figure: Mapping[str, Any] | float | None) -> list[float]:
    """The ends of an interval; nothing for a bare number."""
    return [bound for bound in figure["ci"] if bound is not None] if isinstance(figure, Mapping) else []


def _cell(figure: Mapping[str, Any] | float | None) -> tuple[str, str]:
    """Mean and interval as text."""
    if not isinstance(figure, Mapping):
        return number(figure), ""
    mean, low, high = (number(value, decimals=3) for value in (figure["mean"], *figure["ci"]))
    return mean, f"{low} to {high}"


def _difference(
    name: str, figure: Mapping[str, Any] | float | None, rewards: Sequence[Figures], reach: float
) -> Difference:
    """A paired difference; one without an interval gets no mark."""
    if not isinstance(figure, Mapping):
        return Difference(number(figure, sign=True), "", 0, "", None)
    if len(_ends(figure)) < 2:
        return Difference(number(figure["mean"], sign=True), "", 0, "", None)
    values = figure["ci"][0], figure["mean"], figure["ci"][1]
    tone = verdict(name, figure, rewards)
    low, mean, high = (number(value, sign=True, decimals=3) for value in values)
    left, middle, right = (50 + 48 * value / (reach or 1) for value in values)
    return Difference(mean, f"({low}, {high})", tone, MARKS[tone], (left, middle, right))

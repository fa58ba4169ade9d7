"""An inspection for people: tables for the terminal, and one self-contained HTML page."""

from collections.abc import Sequence

import numpy as np
from rich.markup import escape
from rich.table import Table

from algorithms.inspection.usable_rewards import reward_rows
from algorithms.page import render_page
from algorithms.terminal import STYLE
from cellenv.data.inspection.findings import ClassRow, Inspection

MOST_ROWS = 16  # of a table of the terminal
BARS = " ▁▂▃▄▅▆▇█"
BINS = 32  # of a drawn histogram


def facts(inspection: Inspection) -> dict[str, str]:
    """The folder in a few lines."""
    size = "no readable image" if inspection.size is None else " x ".join(map(str, inspection.size))
    kinds = f"{len(inspection.classes)} mechanisms of action" if inspection.labelled else "no mechanisms of action"
    return {
        "folder": inspection.folder,
        "tables": f"{inspection.index}, {inspection.embedding}",
        "images": f"{inspection.treated:,} treated, {inspection.controls:,} controls; uint8, {size}",
        "channels": ", ".join(inspection.channels),
        "compounds": f"{inspection.compounds:,}, {kinds}; conditions of {inspection.condition_size:,} numbers",
        "held-out contexts": f"{inspection.contexts:,} at most in an evaluation",
    }


def class_table(inspection: Inspection) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the rows, of the classes: compounds, doses, images by split, held-out images."""
    splits = inspection.splits
    title = "mechanism of action" if inspection.labelled else "compound"
    columns = [title, *(["compounds"] if inspection.labelled else []), "doses", *splits, "held out"]

    def cells(row: ClassRow) -> list[str]:
        counts = [row.compounds] if inspection.labelled else []
        counts += [row.doses, *(row.cells.get(split, 0) for split in splits), row.held_out]
        return [row.name, *(f"{n:,}" for n in counts)]

    return columns, [cells(row) for row in inspection.classes]


def plate_table(inspection: Inspection) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the rows, of the plates: treated images and controls by split."""
    splits = inspection.splits
    columns = [inspection.pairing, *(f"{split} {kind}" for split in splits for kind in ("treated", "controls"))]
    rows = [
        [row.name, *(f"{counts.get(split, 0):,}" for split in splits for counts in (row.treated, row.controls))]
        for row in inspection.plates
    ]
    return columns, rows


def histogram_bars(histogram: Sequence[int]) -> list[float]:
    """Heights of BINS bars in [0, 1]: square roots of the counts, over that of the highest."""
    heights = np.sqrt(np.asarray(histogram, np.float64).reshape(BINS, -1).sum(1))
    return list(heights / max(heights.max(), 1))


def histogram_share(histogram: Sequence[int], value: int) -> str:
    """Share of the pixels that have a value, as text."""
    return f"{histogram[value] / max(sum(histogram), 1):.1%}"


def tables(inspection: Inspection) -> list[Table]:
    """For the terminal; print them with a rich console."""
    overview = Table(show_header=False, **STYLE)
    for name, value in facts(inspection).items():
        overview.add_row(name, escape(value))
    pixels = Table("channel", "values 0 to 255, square roots", "black", "white", title="Pixels", **STYLE)
    for name, histogram in zip(inspection.channels, inspection.histograms, strict=True):
        line = "".join(BARS[round(8 * height)] for height in histogram_bars(histogram))
        pixels.add_row(escape(name), line, histogram_share(histogram, 0), histogram_share(histogram, 255))
    return [
        overview,
        _table("Images", *class_table(inspection)),
        _table("Plates", *plate_table(inspection)),
        pixels,
        _rewards(inspection),
        _problems(inspection),
    ]


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    more = len(rows) - MOST_ROWS
    table = Table(title=title, caption=f"and {more:,} more: see the HTML page" if more > 0 else None, **STYLE)
    for i, name in enumerate(columns):
        table.add_column(escape(name), justify="right" if i else "left")
    for row in rows[:MOST_ROWS]:
        table.add_row(*map(escape, row))
    return table


def _rewards(inspection: Inspection) -> Table:
    table = Table("", "reward", "conditioned on", "needs", title="Rewards", **STYLE)
    for row in reward_rows(inspection):
        table.add_row("[green]yes" if row.usable else "[red]no", row.label, row.conditioned_on, escape(row.why))
    return table


def _problems(inspection: Inspection) -> Table:
    caption = "red: a run would stop; yellow: it would go on" if inspection.problems else "none"
    table = Table("", "problem, its rows, and what mends it", title="Problems", caption=caption, **STYLE)
    for problem in inspection.problems:
        colour = "red" if problem.stops else "yellow"
        text = f"[{colour}]{escape(problem.title)}[/]\n{escape(problem.named_rows())}\n[dim]{escape(problem.mend)}[/]"
        table.add_row(f"[{colour}]{problem.count:,}[/]", text)
    return table


def page(inspection: Inspection) -> str:
    """The inspection as one HTML page that needs no other file, with all classes and plates."""
    histograms = [
        (name, histogram_bars(h), histogram_share(h, 0), histogram_share(h, 255))
        for name, h in zip(inspection.channels, inspection.histograms, strict=True)
    ]
    return render_page(
        "inspection/report.html",
        title=f"Check of {inspection.folder}",
        facts=facts(inspection),
        problems=inspection.problems,
        rewards=reward_rows(inspection),
        sections={"Images": class_table(inspection), "Plates": plate_table(inspection)},
        histograms=histograms,
    )

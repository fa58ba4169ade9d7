"""Both faces of an inspection show everything of it that a reader needs."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from algorithms.inspection.report import MOST_ROWS, histogram_bars, page, tables
from cellenv.data.inspection.findings import PlateRow, Problem
from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from tests.cellenv.data.inspection.folders import write_sound


@pytest.fixture
def found(tmp_path):
    return inspect_folder(CellFolder.read(write_sound(tmp_path), min_cells=2))


def printed(inspection):
    console = Console(file=io.StringIO(), width=80)
    console.print(*tables(inspection), sep="\n")
    return console.file.getvalue()


def test_problems_are_shown_with_rows_and_mend_and_without_markup(found):
    rows = tuple(f"[red]{i}" for i in range(5))
    problem = Problem(stops=True, title="images [x] are bad", rows=rows, count=4321, mend="use --flag")
    for text in (printed(replace(found, problems=(problem,))), page(replace(found, problems=(problem,)))):
        assert all(part in text for part in ("images [x] are bad", "4,321", "[red]0", "use --flag", "..."))
    assert "<b>" not in page(replace(found, problems=(replace(problem, title="<b>"),))).split("<h2>Problems")[1][:900]
    assert "none" in printed(found) and "none" in page(found)


def test_long_tables_are_cut_in_the_terminal_alone(found):
    plates = tuple(PlateRow(name=f"plate-{i}", treated={"train": 1}, controls={}) for i in range(MOST_ROWS + 5))
    many = replace(found, plates=plates)
    assert "plate-15" in printed(many) and "plate-16" not in printed(many) and "and 5 more" in printed(many)
    assert "plate-20" in page(many)


def test_bars_are_square_roots_and_at_most_one():
    bars = histogram_bars([0] * 255 + [99])
    assert bars[-1] == 1 and set(bars[:-1]) == {0}
    assert histogram_bars([0] * 256) == [0] * 32
    assert histogram_bars([4, *[0] * 254, 16])[0] == pytest.approx(0.5)


def test_unreadable_folders_have_a_page_too(found):
    assert "no readable image" in printed(replace(found, size=None, histograms=found.histograms))

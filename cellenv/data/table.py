"""The two tables of an image folder: one row per image, one row per compound. Every row is validated.

P compounds, D condition size.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from cellenv.csv_io import Row, read_lines, read_rows
from cellenv.data.layouts import BBBC021, Layout

Item = TypeVar("Item")
UNSEEN = "UNSEEN"  # column that `cellfluxrl prepare` writes
HIDDEN = (".", "~$")  # how the names of files begin that macOS and Excel leave beside a table


class RowErrors:
    """Handling of invalid rows: raise the first error, or with `skip` drop them and list errors in `found`."""

    def __init__(self, skip: bool = False):
        self.skip = skip
        self.found: list[str] = []

    def filter(self, items: Iterable[Item], check: Callable[[Item], None]) -> list[Item]:
        """Items that pass the check, which raises ValueError or FileNotFoundError for an invalid one.

        Raises:
            ValueError, FileNotFoundError: what the check raised first, unless `skip`.
        """
        passed = []
        for item in items:
            try:
                check(item)
            except (ValueError, FileNotFoundError) as error:
                self.refuse(error)
            else:
                passed.append(item)
        return passed

    def refuse(self, error: ValueError | FileNotFoundError) -> None:
        """Raise the error of a row, or with `skip` list it."""
        if not self.skip:
            raise error
        self.found.append(str(error))


def find_file(path: Path, pattern: str, flag: str = "") -> Path:
    """The only file that matches the pattern, in the folder or in its subfolder `metadata`; an absolute path itself.

    Raises:
        FileNotFoundError: unless exactly one matches.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if (given := Path(pattern)).is_absolute():
        if given.is_file():
            return given
        raise FileNotFoundError(f"there is no file {given}{f'; choose one with {flag} FILE' if flag else ''}")
    there = {*path.glob(pattern), *path.glob(f"metadata/{pattern}")}
    found = sorted(file for file in there if not file.name.startswith(HIDDEN))
    if len(found) != 1:
        came = ", ".join(str(file.relative_to(path)) for file in found) or "none"
        choose = f"; choose one with {flag} FILE" if flag and found else ""
        choose = choose if found else "; `cellfluxrl prepare` makes such a folder of microscope fields"
        raise FileNotFoundError(f"need exactly one {pattern} in {path} or in its folder metadata; found {came}{choose}")
    return found[0]


def read_table(file: Path, layout: Layout = BBBC021, row_errors: RowErrors | None = None) -> list[Row]:
    """Rows of the image table that are treated or control.

    Raises:
        ValueError: if a column is missing, or at the first invalid row unless `row_errors` skips it.
    """
    columns = dict.fromkeys(layout.columns, "")
    if layout.label is not None:
        columns[layout.label] = "a layout with label=None needs no mechanism of action"
    row_errors = row_errors or RowErrors()
    files: dict[str, str] = {}

    def check(located: tuple[str, Row]) -> None:
        where, row = located
        check_row(row, where, layout, files)
        files[layout.file(row["SAMPLE_KEY"])] = row["SAMPLE_KEY"]

    passed = row_errors.filter(read_rows(file, columns, row_errors.refuse), check)
    rows = [row for _, row in passed if layout.states[row[layout.state]] is not None]
    return [row | {"SPLIT": layout.splits.get(row["SPLIT"], row["SPLIT"])} for row in rows]


def check_row(row: Row, where: str, layout: Layout, files: Mapping[str, str]) -> None:
    """Raise ValueError unless the row of the image table is valid.

    where: file and line, for the message. files: those of the rows before -> their sample keys.
    """
    if any(column not in row for column in layout.columns):
        raise ValueError(f"{where}: the row is shorter than the header")
    key, state, form = row["SAMPLE_KEY"], row[layout.state], layout.file.__name__.upper()
    try:
        file = layout.file(key)
    except ValueError:
        raise ValueError(f"{where}: need SAMPLE_KEY as {form}; got {key!r:.100}") from None
    if "/" in key or "\\" in key or not key.isprintable() or {".", "..", ""} & set(file.split("/")):
        raise ValueError(f"{where}: need SAMPLE_KEY as {form}, the name of a file, without slashes; got {key!r:.100}")
    if state not in layout.states:
        known = ", ".join(layout.states)
        raise ValueError(f"{where} ({key}): need {layout.state} as one of {known}; got {state!r:.100} (--state-names)")
    if layout.label and layout.states[state] and not row[layout.label]:
        raise ValueError(f"{where} ({key}): need a mechanism of action in {layout.label}; it is empty")
    if layout.states[state] is not None and not row[layout.pairing]:
        raise ValueError(
            f"{where} ({key}): need {layout.pairing}, which an image shares with its controls; it is empty (--pairing)"
        )
    if (unseen := row.get(UNSEEN, "")) not in ("", "0", "1"):
        raise ValueError(f"{where} ({key}): need {UNSEEN} as 1 (held out), 0 or empty; got {unseen!r:.100}")
    if (other := files.get(file)) == key:
        raise ValueError(f"{where}: SAMPLE_KEY {key} appears twice")
    if other is not None:
        raise ValueError(f"{where}: SAMPLE_KEY {other} and {key} are both {file}: remove the row of the other cell")


def is_held_out(row: Row, layout: Layout) -> bool:
    """Whether a treated row is of a held-out compound: 1 in a column UNSEEN, or if that is empty as the layout says."""
    marked = row.get(UNSEEN)
    return marked == "1" if marked else row[layout.compound] in layout.unseen


def read_embedding(file: Path, compounds: Collection[str] = ()) -> dict[str, Tensor | str]:
    """{compound: condition (D,) float32, or a message if its row is invalid}. A header is read over.

    compounds: names in the image table, which no header has.

    Raises:
        ValueError: the file has no row, or is no table (see `read_lines`).
    """
    rows = (cells for _, cells in read_lines(file))
    if (first := next(rows, None)) is None or len(first) < 2:
        raise ValueError(f"{file} has no columns; need a row for each compound: its name, then numbers")
    size = len(first) - 1
    found: dict[str, Tensor | str] = {}
    for name, *values in rows if is_header(first, compounds) else chain([first], rows):
        if name in found:
            found[name] = f"{file} has two rows for {name!r}"
        else:
            found[name] = _parse_condition(values, size, name, file)
    return found


def is_header(cells: list[str], compounds: Collection[str] = ()) -> bool:
    """Whether the first row of an embedding names columns: with words, by counting, or without a compound.

    The row of one of these compounds, whatever its case, does not, though its numbers are 0, 1, ... or have gaps.
    """
    name, *values = cells
    if name and name.casefold() in {compound.casefold() for compound in compounds}:
        return False
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return True
    return not name.strip() or any(numbers == list(range(start, start + len(numbers))) for start in (0, 1))


def _parse_condition(values: list[str], size: int, name: str, file: Path) -> Tensor | str:
    """Condition (D,) float32, or a message if the row is invalid."""
    if len(values) != size:
        return f"the row {name!r} of {file} has {len(values)} numbers; the first row names {size}"
    try:
        condition = torch.tensor([float(value) for value in values])
    except ValueError as error:
        return f"the row {name!r} of {file} needs numbers after the name: {error}"
    return condition if condition.isfinite().all() else f"the row {name!r} of {file} holds nan or inf"


def condition_of(row: Row, layout: Layout, conditions: Mapping[str, Tensor | str]) -> Tensor:
    """Condition of a treated image, (D,).

    Raises:
        ValueError: if its compound has no valid row in the embedding; names the image.
    """
    name = row[layout.compound]
    condition = conditions.get(name, f"the embedding has no row for {name!r}; every treated compound needs one")
    if isinstance(condition, str):
        raise ValueError(f"image {row['SAMPLE_KEY']}: {condition}")
    return condition

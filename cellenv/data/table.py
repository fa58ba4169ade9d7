"""The two tables of an image folder: one row per image, one row per compound. Every row is validated.

P compounds, D condition size.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from cellenv.data.layouts import BBBC021, Layout

Item = TypeVar("Item")
Row = dict[str, str]


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
                if not self.skip:
                    raise
                self.found.append(str(error))
            else:
                passed.append(item)
        return passed


def find_file(path: Path, pattern: str) -> Path:
    """The only file that matches the pattern, in the folder or in its subfolder `metadata`; an absolute path itself.

    Raises:
        FileNotFoundError: unless exactly one matches.
    """
    if (given := Path(pattern)).is_absolute() and given.is_file():
        return given
    found = sorted({*path.glob(pattern), *path.glob(f"metadata/{pattern}")})
    if len(found) != 1:
        came = ", ".join(str(file.relative_to(path)) for file in found) or "none"
        raise FileNotFoundError(f"need exactly one {pattern} in {path} or in its folder metadata; found {came}")
    return found[0]


def read_table(file: Path, layout: Layout = BBBC021, row_errors: RowErrors | None = None) -> list[Row]:
    """Rows of the image table that are treated or control.

    Raises:
        ValueError: if a column is missing, or at the first invalid row unless `row_errors` skips it.
    """
    with file.open(newline="", encoding="utf-8-sig") as stream:  # Excel writes a byte order mark
        reader = csv.DictReader(stream)
        if missing := set(layout.columns) - set(reader.fieldnames or ()):
            hint = "; a layout with label=None needs no mechanism of action" if layout.label in missing else ""
            raise ValueError(f"{file} lacks the columns {sorted(missing)}; it has {reader.fieldnames}{hint}")
        numbered = [(reader.line_num, row) for row in reader]
    keys: set[str] = set()

    def check(numbered: tuple[int, Row]) -> None:
        number, row = numbered
        check_row(row, f"{file}, line {number}", layout, keys)
        keys.add(row["SAMPLE_KEY"])

    passed = (row_errors or RowErrors()).filter(numbered, check)
    return [row for _, row in passed if layout.states[row[layout.state]] is not None]


def check_row(row: Row, where: str, layout: Layout, keys: Collection[str]) -> None:
    """Raise ValueError unless the row of the image table is valid.

    where: file and line, for the message. keys: sample keys of the rows before.
    """
    if any(row[column] is None for column in layout.columns):
        raise ValueError(f"{where}: the row is shorter than the header")
    key, state, form = row["SAMPLE_KEY"], row[layout.state], layout.file.__name__.upper()
    try:
        layout.file(key)
    except ValueError:
        raise ValueError(f"{where}: need SAMPLE_KEY as {form}; got {key!r}") from None
    if "/" in key or "\\" in key:
        raise ValueError(f"{where}: need SAMPLE_KEY as {form}, without slashes; got {key!r}")
    if state not in layout.states:
        raise ValueError(f"{where} ({key}): need {layout.state} as one of {', '.join(layout.states)}; got {state!r}")
    if layout.label and layout.states[state] and not row[layout.label]:
        raise ValueError(f"{where} ({key}): need a mechanism of action in {layout.label}; it is empty")
    if key in keys:
        raise ValueError(f"{where}: SAMPLE_KEY {key} appears twice")


def read_embedding(file: Path) -> dict[str, Tensor | str]:
    """{compound: condition (D,) float32, or a message if its row is invalid}. The first row is a header."""
    with file.open(newline="", encoding="utf-8-sig") as stream:  # Excel writes a byte order mark
        rows = [row for row in csv.reader(stream) if row]
    size = len(rows[0]) - 1 if rows else 0
    found: dict[str, Tensor | str] = {}
    for name, *values in rows[1:]:
        if name in found:
            found[name] = f"{file} has two rows for {name!r}"
        else:
            found[name] = _parse_condition(values, size, name, file)
    return found


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

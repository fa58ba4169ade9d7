"""The tables of a prepared folder: one row a cell, one row a compound, as `ImagingCells` reads them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellenv.csv_io import write_rows
from cellenv.data.fingerprints import morgan_counts
from cellenv.data.layouts import week_plate_name
from cellenv.data.prepare.delimited import read_cells
from cellenv.data.prepare.fields import Field
from cellenv.data.prepare.wells import NOTES
from cellenv.data.table import is_header

INDEX, EMBEDDING = "cells_df_all.csv", "emb_compounds.csv"
COLUMNS = (
    *("SAMPLE_KEY", "BATCH", "PLATE", "WELL", "SITE", "TABLE_NUMBER", "IMAGE_NUMBER", "OBJECT_NUMBER", "CPD_NAME"),
    *("SMILES", "DOSE", "ANNOT", "STATE", "SPLIT", "UNSEEN", "Y", "X", "NUCLEUS_AREA"),
)

Record = Mapping[str, Any]


def index_rows(
    fields: Sequence[Field],
    records: Mapping[str, Record],
    split: Mapping[tuple[str, str], str],
    unseen: Iterable[str],
) -> list[dict[str, object]]:
    """Rows of the image table: the cells of all fields whose well is in `split`.

    records: of each field by name, as `prepare_well` writes them. BATCH is the plate, from which controls are drawn.
    """
    held_out = set(unseen)
    tables = {plate: k for k, plate in enumerate(sorted({plate_name(field) for field in fields}), 1)}
    rows: list[dict[str, object]] = []
    for number, field in enumerate(fields, 1):
        plate = plate_name(field)
        if (plate, field.well) not in split or field.name not in records:
            continue
        for cell in records[field.name]["cells"]:
            values = (
                *(cell["key"], plate, field.plate, field.well, field.site, tables[plate], number, cell["object"]),
                *(field.compound, field.smiles, f"{field.dose:g}", field.moa, int(not field.is_control)),
                *(split[plate, field.well], int(field.compound in held_out), cell["y"], cell["x"], cell["area"]),
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def plate_name(field: Field) -> str:
    """Week4_27481"""
    return f"{field.batch}_{field.plate}"


def read_conditions(file: Path, compounds: Sequence[str]) -> list[list[str]]:
    """Rows of the embedding, name and numbers, of these compounds from a table whose first column is the name.

    The table needs no header.

    Raises:
        ValueError: if compounds are missing or have two rows, a value is no number, or a row has more or fewer than the
            first.
    """
    lines = [_without_blank_end(cells) for cells in read_cells(file)]
    named = lines[1:] if lines and is_header(lines[0], compounds) else lines
    known = {name.casefold(): numbers for name, *numbers in named}
    count = Counter(name.casefold() for name, *_ in named)
    if double := [compound for compound in compounds if count[compound.casefold()] > 1]:
        raise ValueError(f"{file} has two rows for {', '.join(double)}: remove one, upper and lower case do not count")
    if missing := [compound for compound in compounds if compound.casefold() not in known]:
        raise ValueError(f"{file} has no row for {', '.join(missing)}; its first column names the compounds")
    rows = [[compound, *known[compound.casefold()]] for compound in compounds]
    for compound, *numbers in rows:
        if len(numbers) != len(lines[0]) - 1:
            raise ValueError(f"{file}, {compound!r}: {len(numbers)} numbers, the first row has {len(lines[0]) - 1}")
        try:
            [float(number) for number in numbers]
        except ValueError as error:
            raise ValueError(f"{file}, {compound!r}: {error}") from error
    return rows


def _without_blank_end(cells: list[str]) -> list[str]:
    """The name, and the cells after it up to the last that is not empty."""
    last = max((k for k, cell in enumerate(cells) if cell), default=0)
    return cells[: last + 1]


def compute_conditions(smiles: Mapping[str, str]) -> list[list[str]]:
    """Rows of the embedding, name and numbers: Morgan counts of the structures {compound: SMILES}.

    Raises:
        ValueError: if a compound has no structure, or a wrong one.
        ImportError: if RDKit is not installed.
    """
    if missing := sorted(compound for compound, structure in smiles.items() if not structure):
        raise ValueError(
            f"no SMILES for {', '.join(missing)}: every treated compound needs one (--compounds, a table of names and"
            " SMILES), or a row in --embeddings"
        )
    rows = []
    for compound, structure in smiles.items():
        try:
            rows.append([compound, *(f"{count:g}" for count in morgan_counts(structure).tolist())])
        except ValueError as error:
            raise ValueError(f"compound {compound!r}: {error}") from error
        except ImportError as error:
            raise ImportError(f"{error}, or give --embeddings, a table of compounds and their numbers") from error
    return rows


def write_tables(out: Path, rows: Sequence[Mapping[str, object]], conditions: Sequence[Sequence[str]]) -> None:
    """Write both tables, the index last: without it the folder cannot be read."""
    header = ["", *map(str, range(len(conditions[0]) - 1))]
    write_rows(out / EMBEDDING, [header, *conditions])
    numbered = [[i, *row.values()] for i, row in enumerate(rows)]
    write_rows(out / INDEX, [["", *COLUMNS], *numbered])


def set_index_aside(out: Path, field: Field) -> None:
    """Move the image table to the notes if this field's plate has cells, which are to be written anew.

    A stopped run then leaves a folder that cannot be read, and not new cells under what the table says of the old ones.
    """
    if (out / INDEX).is_file() and (out / week_plate_name(f"{field.name}_1")).parent.is_dir():
        (out / INDEX).replace(out / NOTES / INDEX)


def count_plates(fields: Sequence[Field], records: Mapping[str, Record]) -> dict[str, dict[str, int]]:
    """Of each plate: wells, fields, nuclei found, cells, and nuclei left out for each reason."""
    counts: dict[str, Counter[str]] = {}
    wells: dict[str, set[str]] = {}
    for field in fields:
        if (record := records.get(field.name)) is not None:
            plate = counts.setdefault(plate_name(field), Counter())
            wells.setdefault(plate_name(field), set()).add(field.well)
            plate.update({"fields": 1, "nuclei": record["nuclei"], "cells": len(record["cells"])})
            plate.update(record["rejected"])
    return {plate: {"wells": len(wells[plate]), **count} for plate, count in counts.items()}

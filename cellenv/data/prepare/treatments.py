"""What each well was treated with: compound, concentration, mechanism of action (MoA), structure, control or not."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from cellenv.csv_io import Row
from cellenv.data.prepare.delimited import read_rows
from cellenv.data.prepare.fields import Field, check_one_name, key_part, parse_dose

ALIASES = {  # names of columns in tables of wells, mechanisms and compounds; case, blanks and signs do not count
    "plate": ("plate", "metadata plate", "barcode", "assay plate barcode"),
    "well": ("well", "metadata well", "well position"),
    "compound": ("compound", "cpd name", "name", "treatment", "metadata compound", "metadata jcp2022", "broad sample"),
    "dose": ("concentration", "dose", "conc", "metadata concentration", "mmoles per liter"),
    "moa": ("moa", "mechanism", "mechanism of action", "annot", "metadata moa"),
    "smiles": ("smiles", "structure", "metadata smiles"),
}


def add_wells(fields: Sequence[Field], file: Path) -> list[Field]:
    """The fields with what a table of wells says: the compound, and if it has them concentration, MoA and SMILES.

    Wells are joined by plate and well, or by well alone if the table names no plate. A plate is W_1, of batch and
    plate, or 1 alone where no other batch of the fields has a plate 1. An empty value leaves what the field has.

    Raises:
        ValueError: if the table lacks well or compound, names a well twice, or holds no well of the fields; if two
            names of plates become one, or one is that of plates of several batches.
    """
    rows = read_rows(file)
    find = _finder(rows, file)
    well, compound, plate = find("well", True), find("compound", True), find("plate", False)
    dose, moa, smiles = find("dose", False), find("moa", False), find("smiles", False)
    of_well = _by_well(rows, file, plate, well)
    batches: dict[str, set[str]] = {}
    for field in fields:
        batches.setdefault(field.plate, set()).add(field.batch)
    joined, found = [], 0
    for field in fields:
        names = (key_part(f"{field.batch}_{field.plate}"), field.plate) if plate else ("",)
        name, row = next(
            ((name, of_well[key]) for name in names if (key := (name, normal_well(field.well))) in of_well), ("", {})
        )
        found += bool(row)
        if name == field.plate and len(batches[name]) > 1:
            raise ValueError(
                f"{file}: plate {row[plate]!r} is one of batch {' and '.join(sorted(batches[name]))}: name it as"
                f" {field.batch}_{field.plate}, batch and plate"
            )
        joined.append(
            replace(
                field,
                compound=row.get(compound, "") or field.compound,
                dose=parse_dose(row[dose], f"{file}, well {field.well}") if row.get(dose) else field.dose,
                moa=row.get(moa, "") or field.moa,
                smiles=row.get(smiles, "") or field.smiles,
            )
        )
    if not found:
        came, needed = rows[0], fields[0]
        of_plate = (f"plate {came[plate]!r}, ", f"plate {needed.batch}_{needed.plate}, ") if plate else ("", "")
        raise ValueError(
            f"{file} names no well of the fields: its first is {of_plate[0]}well {came[well]!r}, that of the fields"
            f" {of_plate[1]}well {needed.well}"
        )
    return joined


def _by_well(rows: Sequence[Row], file: Path, plate: str, well: str) -> dict[tuple[str, str], Row]:
    """{(plate, well): row}, named as those of fields are; plate: its column, or "" if the table names none."""
    found: dict[tuple[str, str], Row] = {}
    written: dict[tuple[str, ...], str] = {}
    for row in rows:
        key = (key_part(row[plate]) if plate else "", normal_well(key_part(row[well])) if row[well] else "")
        if plate:
            check_one_name(written, key[:1], row[plate])
        if key in found:
            where = f" of plate {row[plate]}: name plates of several batches as W1_1, batch and plate" if plate else ""
            raise ValueError(f"{file} has two rows for well {row[well]}{where}")
        found[key] = row
    return found


def add_mechanisms(fields: Sequence[Field], file: Path) -> list[Field]:
    """The fields with the MoA of their compound and concentration, or of the compound if no concentration is given.

    Raises:
        ValueError: if the table lacks compound or MoA, or gives a compound two of them.
    """
    rows = read_rows(file)
    find = _finder(rows, file)
    compound, moa, dose = find("compound", True), find("moa", True), find("dose", False)
    known: dict[tuple[str, str], str] = {}
    for number, row in enumerate(rows, 1):
        concentration = parse_dose(row[dose], f"{file}, row {number}") if dose else None
        key = _treatment(row[compound], concentration)
        if known.setdefault(key, row[moa]) != row[moa]:
            raise ValueError(f"{file} gives {row[compound]!r} two mechanisms: {known[key]!r} and {row[moa]!r}")
    return [
        replace(field, moa=known.get(_treatment(field.compound, field.dose if dose else None), "") or field.moa)
        for field in fields
    ]


def add_structures(fields: Sequence[Field], file: Path) -> list[Field]:
    """The fields with the SMILES of their compound, where the table has it.

    Raises:
        ValueError: if the table lacks compound or SMILES, or gives a compound two of them.
    """
    rows = read_rows(file)
    find = _finder(rows, file)
    compound, smiles = find("compound", True), find("smiles", True)
    known: dict[str, str] = {}
    for row in rows:
        if row[smiles] and (other := known.setdefault(row[compound].casefold(), row[smiles])) != row[smiles]:
            raise ValueError(f"{file} gives {row[compound]!r} two structures: {other!r} and {row[smiles]!r}")
    return [replace(field, smiles=known.get(field.compound.casefold(), field.smiles)) for field in fields]


def structures_of(fields: Sequence[Field]) -> dict[str, str]:
    """{compound: SMILES} of the treated fields; "" where no field of the compound has one.

    Raises:
        ValueError: if a compound has two structures.
    """
    known: dict[str, str] = {}
    for name, smiles in ((field.compound, field.smiles) for field in fields if not field.is_control):
        known[name] = known.get(name) or smiles
        if smiles not in ("", known[name]):
            raise ValueError(
                f"{name!r} has two structures: {known[name]!r} and {smiles!r}; --compounds, a table of names and"
                " SMILES, replaces them"
            )
    return known


def mark_controls(fields: Sequence[Field], controls: Collection[str]) -> list[Field]:
    """The fields with the wells of these compounds, whatever their case, as controls: compound and MoA DMSO, dose 0.

    Raises:
        ValueError: if no field is a control, or no compound is known.
    """
    if not any(field.compound for field in fields):
        raise ValueError("no table says what the wells hold: give --wells, a table of well and compound")
    names = {name.casefold() for name in controls}
    marked = [
        replace(f, compound="DMSO", moa="DMSO", dose=0.0, smiles="", is_control=True)
        if f.compound.casefold() in names
        else f
        for f in fields
    ]
    if not any(field.is_control for field in marked):
        count = Counter(field.compound for field in fields).most_common(5)
        shown = ", ".join(repr(name) for name, _ in count)
        raise ValueError(f"no well holds the control {', '.join(controls)}; they hold {shown}, ...: give --control")
    return marked


def select(fields: Sequence[Field], label_by_compound: bool) -> tuple[list[Field], dict[str, list[str]]]:
    """Fields of known compound and MoA, and the names of those left out for each reason.

    label_by_compound: a compound without a MoA is its own. Otherwise its fields are left out.

    Raises:
        ValueError: if no treated field is left, or a compound has two MoAs or is written in two ways.
    """
    kept: list[Field] = []
    left_out: dict[str, list[str]] = {}
    for field in fields:
        if not field.compound:
            left_out.setdefault("no compound", []).append(field.name)
        elif field.moa or label_by_compound:
            kept.append(field if field.moa else replace(field, moa=field.compound))
        else:
            left_out.setdefault("no mechanism of action", []).append(field.name)
    if all(field.is_control for field in kept):
        counts = ", ".join(f"{len(names)} have {reason}" for reason, names in left_out.items())
        raise ValueError(
            f"no treated field is left, of {len(fields)}: {counts or 'all are controls'}. Give --moa, a table of"
            " compounds and their mechanisms, or --unlabelled compound: each compound is a mechanism of its own"
        )
    moa_of: dict[str, str] = {}
    written: dict[str, str] = {}
    for field in kept:
        name = field.compound
        if not field.is_control and (other := written.setdefault(name.casefold(), name)) != name:
            raise ValueError(f"{other!r} and {name!r} ({field.name}) differ in upper and lower case alone: write one")
        if moa_of.setdefault(name, field.moa) != field.moa:
            raise ValueError(f"{name!r} has two mechanisms: {moa_of[name]!r} and {field.moa!r}")
    return kept, left_out


def normal_well(well: str) -> str:
    """A1, a01 -> A01."""
    letters = well.rstrip("0123456789")
    digits = well[len(letters) :]
    return f"{letters.upper()}{int(digits):02d}" if digits else well.upper()


def _treatment(compound: str, dose: float | None) -> tuple[str, str]:
    return compound.casefold(), "" if dose is None else f"{dose:.6g}"


def _finder(rows: Sequence[Row], file: Path) -> Callable[[str, bool], str]:
    """A function from a role to the column that plays it in the table; "" if none does and it is not needed."""
    plain = {_plain(name): name for name in rows[0]}

    def find(role: str, needed: bool) -> str:
        found = [plain[name] for name in map(_plain, ALIASES[role]) if name in plain]
        if needed and not found:
            raise ValueError(f"{file} needs a column {' or '.join(ALIASES[role])}; it has {', '.join(rows[0])}")
        return found[0] if found else ""

    return find


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())

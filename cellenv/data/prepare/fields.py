"""Fields of view: which file shows which stain of which plate, well and site."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import NamedTuple

from cellenv.csv_io import Row
from cellenv.data.prepare.pattern import compile_pattern
from cellenv.images import CHANNELS

SUFFIXES = (".tif", ".tiff", ".png")
PLACE = ("batch", "plate", "well", "site")  # of a field, in names of files


class Plane(NamedTuple):
    """One stain of a field: a file, and for a file of several planes which one of them, from 0."""

    file: Path
    number: int | None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of a table of fields; "" for what the table does not hold.

    file, folder: may hold {stain}, the stain's name in the table; without it all stains are planes of one file.
    """

    file: str
    folder: str
    batch: str
    plate: str
    well: str
    site: str
    compound: str
    dose: str
    moa: str
    smiles: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of view, and what its well was treated with.

    planes: one for each stain, in the order of the output. site: names the field in its well.
    compound: "" if unknown. dose: in the table's unit. moa, smiles: "" if unknown.
    """

    batch: str
    plate: str
    well: str
    site: str
    planes: tuple[Plane, ...]
    compound: str = ""
    dose: float = 0.0
    moa: str = ""
    smiles: str = ""
    is_control: bool = False

    @property
    def name(self) -> str:
        """Week4_27481_G10_s1: batch, plate, well and site, as sample keys begin."""
        return f"{self.batch}_{self.plate}_{self.well}_s{self.site}"


def parse_sources(stains: Sequence[str]) -> dict[str, str]:
    """{"actin": "Actin"} of ("actin=Actin",): channels of the output, and what the table or file names call them.

    Those called actin, tubulin and DNA come in this order, in which a reader takes them to be.

    Raises:
        ValueError: if an entry is no NAME=NAME, or a channel is named twice.
    """
    pairs = [stain.partition("=")[::2] for stain in stains]
    wrong = [stain for stain, (name, source) in zip(stains, pairs) if not name or not source]
    if wrong or len({name for name, _ in pairs}) < len(pairs) or not pairs:
        raise ValueError(f"need stains as CHANNEL=NAME, each channel once, such as DNA=DAPI; got {' '.join(stains)!r}")
    found = dict(pairs)
    return {name: found[name] for name in CHANNELS} if found.keys() == set(CHANNELS) else found


def fields_of_table(rows: Sequence[Row], folder: Path, columns: Columns, stains: Mapping[str, str]) -> list[Field]:
    """Fields that a table lists, one a row; paths are relative to `folder`.

    Raises:
        ValueError: if a column is missing, a row names no file, plate or well, or a field is listed twice.
    """
    by_stain = "{stain}" in columns.file
    sources = list(stains.values())
    names = [columns.file.format(stain=source) for source in (sources if by_stain else sources[:1])]
    folders = [columns.folder.format(stain=source) for source in (sources if by_stain else sources[:1])]
    optional = (columns.batch, columns.site, columns.compound, columns.dose, columns.moa, columns.smiles)
    check_columns(rows, [*names, *folders, columns.plate, columns.well, *optional], "the table of fields")
    listed = [[_parts(row.get(place, ""), row[name]) for place, name in zip(folders, names)] for row in rows]
    foreign = _foreign_folders(folder, [parts[0] for parts in listed])
    found = []
    for number, (row, paths) in enumerate(zip(rows, listed), 1):
        if empty := [name for name in (*names, columns.plate, columns.well) if not row[name]]:
            raise ValueError(f"row {number} of the table of fields: {empty[0]} is empty")
        files = [folder.joinpath(*parts[foreign:]) for parts in paths]
        found.append(
            Field(
                batch=row.get(columns.batch, ""),
                plate=row[columns.plate],
                well=row[columns.well],
                site=row.get(columns.site, ""),
                planes=tuple(Plane(file, None) for file in files) if by_stain else _planes(files[0], sources),
                compound=row.get(columns.compound, ""),
                dose=parse_dose(row.get(columns.dose, ""), f"row {number} of the table of fields"),
                moa=row.get(columns.moa, ""),
                smiles=row.get(columns.smiles, ""),
            )
        )
    return unique(name_fields(found))


def fields_of_pattern(folder: Path, pattern: str, stains: Mapping[str, str]) -> list[Field]:
    """Fields whose files match the pattern, see `compile_pattern`; a stain's source is its {channel}, or its plane.

    A file that a field lacks is named as the pattern would have it.

    Raises:
        ValueError: if there is no image, no file matches, two of one stain do, or no field has one of the stains.
    """
    expression = compile_pattern(pattern)
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"there is no image in {folder}: need {', '.join(SUFFIXES)}")
    matches = [(file, expression.fullmatch(file.relative_to(folder).as_posix())) for file in files]
    planes: dict[tuple[str, ...], dict[str, Path]] = {}
    for file, match in matches:
        if match is not None:
            parts = match.groupdict()
            place = tuple(parts.get(name) or "" for name in PLACE)
            own, channel = planes.setdefault(place, {}), parts.get("channel", "")
            if channel in own:
                raise ValueError(
                    f"--pattern {pattern!r} finds two files of one stain, {own[channel]} and {file.name}: make it"
                    " narrower, so that no thumbnail or copy matches"
                )
            own[channel] = file
    if not planes:
        shown = ", ".join(file.relative_to(folder).as_posix() for file in files[:3]) or "none"
        raise ValueError(f"no file of {folder} matches --pattern {pattern!r}; its images: {shown}, ...")
    channels = {channel for own in planes.values() for channel in own}
    if channels != {""} and (unknown := [source for source in stains.values() if source not in channels]):
        raise ValueError(
            f"no file of {folder} shows channel {', '.join(unknown)}; they show {', '.join(sorted(channels))}: name the"
            " channels with --stains"
        )

    def field(place: tuple[str, ...], own: Mapping[str, Path]) -> Field:
        if set(own) == {""}:
            sources = _planes(own[""], list(stains.values()))
        else:
            parts = dict(zip(PLACE, place))
            named = {source: folder / pattern.format(**parts, channel=source) for source in stains.values()}
            sources = tuple(Plane(own.get(source, file), None) for source, file in named.items())
        return Field(batch=place[0], plate=place[1] or "plate", well=place[2], site=place[3], planes=sources)

    return unique(name_fields([field(place, own) for place, own in planes.items()]))


def _planes(file: Path, sources: Sequence[str]) -> tuple[Plane, ...]:
    """Planes of one file of several; the sources are their indices from 0."""
    if wrong := [source for source in sources if not source.isdecimal()]:
        raise ValueError(f"{file} holds all stains: --stains needs their planes, such as DNA=0; got {wrong[0]!r}")
    return tuple(Plane(file, int(source)) for source in sources)


def _parts(place: str, name: str) -> list[str]:
    """Folders and name of a file that a table names, whatever the machine that wrote it."""
    return [part for part in f"{place}/{name}".replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _foreign_folders(folder: Path, paths: Sequence[Sequence[str]]) -> int:
    """How many of the leading folders of these paths are those of another machine: fewest that find a file."""
    for parts in paths[:100]:
        for start in range(len(parts)):
            if folder.joinpath(*parts[start:]).is_file():
                return start
    return 0


def split_plate(batch: str, plate: str) -> tuple[str, str]:
    """(batch, plate). Week4_27481 alone is plate 27481 of Week4."""
    if batch:
        return batch, plate
    first, _, rest = plate.partition("_")
    return (first, rest) if first and rest else ("batch", plate)


def key_part(name: str) -> str:
    """A name as part of a sample key and of a path: letters, digits, points and dashes."""
    part = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")
    if not part:
        raise ValueError(f"need names of plates, wells and sites with letters or digits; got {name!r}")
    return part


def name_fields(fields: Sequence[Field]) -> list[Field]:
    """The fields with names fit for sample keys in place of written ones; sites without one are numbered in their well.

    Raises:
        ValueError: if two plates, or two wells of a plate, get one name.
    """
    count: Counter[tuple[str, str, str]] = Counter()
    written: dict[tuple[str, ...], str] = {}
    named = []
    for field in fields:
        as_written = split_plate(field.batch, field.plate)
        batch, plate = map(key_part, as_written)
        place = (batch, plate, key_part(field.well))
        count[place] += 1
        check_one_name(written, (f"{batch}_{plate}",), "_".join(as_written))
        check_one_name(written, place, field.well)
        site = key_part(field.site) if field.site else str(count[place])
        named.append(replace(field, batch=batch, plate=plate, well=place[2], site=site))
    return named


def check_one_name(written: dict[tuple[str, ...], str], key: tuple[str, ...], name: str) -> None:
    """Note the name that a key comes from; raise ValueError if it came from another one before."""
    if (other := written.setdefault(key, name)) != name:
        raise ValueError(
            f"{other!r} and {name!r} are both {key[-1]!r} in sample keys, which hold no other signs than points and"
            " dashes: rename one"
        )


def unique(fields: list[Field]) -> list[Field]:
    """The fields, if no two have one name; raises ValueError otherwise."""
    count = Counter(field.name for field in fields)
    if twice := [name for name, n in count.items() if n > 1]:
        raise ValueError(f"{len(twice)} fields are listed twice, the first is {twice[0]}: name the column of the site")
    return fields


def parse_dose(text: str, where: str) -> float:
    """A concentration; 0 for an empty one. A comma is a decimal one, and in 1,000 it could be either."""
    decimal, whole = text.replace(",", "."), text.replace(",", "")
    if re.match(r"[+-]?[1-9]\d{0,2},\d{3}(?!\d)", text):
        raise ValueError(f"{where}: the concentration {text!r} can be {decimal} or {whole}: write it without the comma")
    try:
        dose = float(decimal or 0)
    except ValueError:
        dose = nan
    if not isfinite(dose):
        raise ValueError(f"{where}: need a number as concentration, got {text!r}")
    return dose


def check_columns(rows: Sequence[Row], names: Sequence[str], table: str) -> None:
    """Raise ValueError if the table lacks one of these columns; "" needs none."""
    if missing := sorted({name for name in names if name and name not in rows[0]}):
        raise ValueError(f"{table} lacks {', '.join(missing)}; it has {', '.join(rows[0])}")

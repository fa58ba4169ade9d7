"""Plates of fields to single cells, over processes; what is done stays, and a stopped run goes on.

OUT/prepare/settings.json            what the cells depend on; another run into the folder needs the same
OUT/prepare/Week4_27481/scale-1f0a.npz    light and scale of a plate, and a digest of the fields they are from
OUT/prepare/Week4_27481/G10.json     a finished well, see wells.py
OUT/prepare/cells_df_all.csv         the table of cells that were made anew since, see `set_index_aside`
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from math import inf, pi, sqrt
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from cellenv.data.prepare.fields import Field
from cellenv.data.prepare.illumination import SAMPLES, Scale, fit_scale, merge
from cellenv.data.prepare.nuclei import FindNuclei, find_nuclei
from cellenv.data.prepare.output import plate_name, set_index_aside
from cellenv.data.prepare.planes import read_planes
from cellenv.data.prepare.sheets import jpeg, plate_sheet
from cellenv.data.prepare.wells import (
    NOTES,
    CellRules,
    WellJob,
    digest_fields,
    enlarge,
    notes_of,
    prepare_well,
    record_of,
    summarize_well,
)
from cellenv.json_io import dump_json, read_json
from cellenv.weights_io import write_atomically

DRAWN = 8  # fields on the contact sheet of a plate
PILOTS = 4  # fields in which the size of nuclei is measured
SAME_ZOOM = 0.02  # a smaller change of size is left out

Result = TypeVar("Result")

_find: FindNuclei | None = None  # of this process


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """How large a cell becomes. factor: px of the crop for one px of the field; None: as `nucleus` says.

    nucleus: px, the diameter that the median nucleus gets in the crop. diameter: px, what it has in the fields; None:
    measured in a few of them.
    """

    factor: float | None
    nucleus: float
    diameter: float | None


@dataclass(frozen=True, kw_only=True)
class MeasuredZoom:
    """What zoom.json says: the factor of all plates, the fields in which nuclei were measured, and their digest."""

    zoom: float
    fields: tuple[str, ...]
    digest: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.zoom < inf:
            raise ValueError(f"need a zoom above 0, got {self.zoom}")


def prepare_plates(
    fields: Sequence[Field],
    out: Path,
    rules: CellRules,
    zoom: Zoom,
    make_finder: Callable[[], FindNuclei],
    *,
    settings: Mapping[str, Any],
    workers: int,
) -> dict[str, Any]:
    """Cut the cells of all fields out, plate by plate.

    make_finder: called once in every process. settings: all that the cells depend on, as JSON.
    Returns `fields` and `unreadable` of the records of all wells, `zoom`, and `scales` of all plates.

    Raises:
        ValueError: if the folder was begun with other settings, or a field cannot be read and is not to be skipped.
    """
    check_settings(out / NOTES / "settings.json", settings)
    plates: dict[str, list[Field]] = {}
    for field in fields:
        plates.setdefault(plate_name(field), []).append(field)
    result: dict[str, Any] = {"fields": {}, "unreadable": {}, "scales": {}}
    with open_pool(workers, make_finder) as pool, tqdm(total=len(fields), desc="prepare", unit="field") as bar:
        factor: float | None = None
        for name, own in plates.items():
            wells, digest = group_wells(own), digest_fields(own)
            scale = plate_scale(wells, notes_of(out, own[0]) / f"scale-{digest}.npz", rules, pool)
            if factor is None:
                factor = read_zoom(out, zoom, fields, own, scale, rules, make_finder)
            known = f"{digest}-{factor:g}"
            drawn = frozenset(f.name for f in own[:: max(1, len(own) // DRAWN)][:DRAWN])
            jobs = []
            for well in wells:
                if (record := finished(record_of(out, well[0]), known)) is not None:
                    add_record(result, record)
                    bar.update(len(well))
                else:
                    jobs.append(
                        WellJob(out=out, fields=well, scale=scale, zoom=factor, rules=rules, drawn=drawn, digest=known)
                    )
            if jobs:
                set_index_aside(out, own[0])
            for job, record in zip(jobs, pool(_prepare_well, jobs)):
                add_record(result, record)
                bar.update(len(job.fields))
            result["scales"][name] = {"low": scale.low.tolist(), "high": scale.high.tolist()}
            write_sheet(out, name, [field for field in own if field.name in drawn])
    result["zoom"] = factor
    return result


def check_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Note the settings of a new folder; raise ValueError if the folder was begun with others."""
    wanted = json.loads(json.dumps(settings))
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(wanted, indent=2).encode())
    elif (old := read_json(file, dict[str, Any])) != wanted:
        names = sorted(name for name in {*old, *wanted} if old.get(name) != wanted.get(name))
        was = "; ".join(f"{name} was {old.get(name)}, now {wanted.get(name)}" for name in names)
        raise ValueError(f"{file.parents[1]} was begun with other settings: {was}. Give another --out, or remove it")


def finished(file: Path, digest: str) -> dict[str, Any] | None:
    """The record of a well, if it was written with this digest, and all its fields were readable."""
    record = read_json(file, dict[str, Any]) if file.is_file() else {}
    return record if record.get("digest") == digest and not record["unreadable"] else None


def group_wells(fields: Sequence[Field]) -> list[tuple[Field, ...]]:
    """Fields of a plate by well, in order."""
    wells: dict[str, list[Field]] = {}
    for field in fields:
        wells.setdefault(field.well, []).append(field)
    return [tuple(well) for well in wells.values()]


def plate_scale(wells: Sequence[tuple[Field, ...]], file: Path, rules: CellRules, pool: Any) -> Scale:
    """Light and scale of a plate, from the file if they are known."""
    if file.is_file():
        return load_scale(file)
    samples = max(1000, SAMPLES // sum(map(len, wells)))
    summaries = pool(partial(summarize_well, samples=samples, skip_bad=rules.skip_bad), wells)
    scale = fit_scale(merge(one for one in summaries if one is not None), rules.scale, rules.channels)
    content = BytesIO()
    np.savez(content, **vars(scale))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content.getvalue())
    return scale


def load_scale(file: Path) -> Scale:
    """Light and scale of a plate, as `plate_scale` noted them.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return Scale(**{name: arrays[name] for name in ("dark", "light", "low", "high")})
    except Exception as error:  # an archive raises what its parser does, zipfile's and struct's errors among them
        raise ValueError(f"{file} is damaged: {error!r:.300}; remove it, and it is made anew") from error


def read_zoom(
    out: Path,
    zoom: Zoom,
    fields: Sequence[Field],
    own: Sequence[Field],
    scale: Scale,
    rules: CellRules,
    make_finder: Callable[[], FindNuclei],
) -> float:
    """px of the crop for one px of a field; a measured one is noted in the folder.

    fields: of all plates, among which a noted one may have been measured. own: of the plate with this scale.
    """
    if zoom.factor is not None:
        return zoom.factor
    file = out / NOTES / "zoom.json"
    if zoom.diameter is not None:
        return near_one(zoom.nucleus / zoom.diameter)
    if file.is_file():
        noted = read_json(file, MeasuredZoom)
        pilots = [field for field in fields if field.name in noted.fields]
        if not pilots or digest_fields(pilots) == noted.digest:
            return noted.zoom
    pilots = choose_pilots(own, rules.skip_bad)
    factor, find = 1.0, make_finder()
    for _ in range(2):  # the second time at the size for which the finder was made
        diameters = [d for field in pilots for d in _diameters(field, scale, factor, rules, find)]
        if not diameters:
            raise ValueError(f"no nucleus in {', '.join(f.name for f in pilots)}: give --nucleus-diameter in px")
        factor = near_one(zoom.nucleus / float(np.median(diameters)))
    noted = MeasuredZoom(zoom=factor, fields=tuple(field.name for field in pilots), digest=digest_fields(pilots))
    write_atomically(file, dump_json(noted))
    return factor


def choose_pilots(fields: Sequence[Field], skip_bad: bool) -> list[Field]:
    """The first controls of a plate, fields if it has none; with `skip_bad` those that can be read."""
    for candidates in ([field for field in fields if field.is_control], fields):
        if pilots := list(islice((f for f in candidates if not skip_bad or _is_readable(f)), PILOTS)):
            return pilots
    return []


def _is_readable(field: Field) -> bool:
    try:
        read_planes(field.planes)
    except (ValueError, FileNotFoundError):
        return False
    return True


def near_one(factor: float) -> float:
    """The factor with three digits; 1 if it hardly differs."""
    return 1.0 if abs(factor - 1) < SAME_ZOOM else round(factor, 3)


def _diameters(field: Field, scale: Scale, factor: float, rules: CellRules, find: FindNuclei) -> list[float]:
    """Diameters of a field's nuclei in px of the file."""
    scaled = enlarge(scale.normalise(read_planes(field.planes)), factor)
    areas = find_nuclei(scaled[rules.channels.index(rules.nucleus)], find, rules.filters.max_area).areas
    return [2 * sqrt(area / pi) / factor for area in areas if area >= rules.filters.min_area]


def add_record(result: dict[str, Any], record: Mapping[str, Any]) -> None:
    """Add a well's record to those of all wells."""
    result["fields"] |= record["fields"]
    result["unreadable"] |= record["unreadable"]


def write_sheet(out: Path, plate: str, drawn: Sequence[Field]) -> None:
    """Write the contact sheet of a plate."""
    places = [(notes_of(out, field) / f"{field.well}_s{field.site}.jpg", field) for field in drawn]
    found = [(file, field) for file, field in places if file.is_file()]
    sheet = plate_sheet([file for file, _ in found], [f"{f.well} s{f.site}\n{f.compound} {f.dose:g}" for _, f in found])
    if sheet is not None:
        folder = out / "contact_sheets"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{plate}.jpg", jpeg(sheet))


@contextmanager
def open_pool(workers: int, make_finder: Callable[[], FindNuclei]) -> Iterator[Any]:
    """A function that maps jobs, in order, over this number of processes; 1 works in this one."""
    if workers == 1:
        _start(make_finder)
        yield map
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_process, (make_finder,)) as executor:
        try:
            yield lambda work, jobs: _raised_here(executor.map(work, jobs))
        finally:
            executor.shutdown(cancel_futures=True)


def _raised_here(results: Iterator[Result]) -> Iterator[Result]:
    """The results; an error of another process about its input is raised as one of this one."""
    try:
        yield from results
    except (ValueError, OSError) as error:
        raise type(error)(*error.args) from error


def _start_process(make_finder: Callable[[], FindNuclei]) -> None:
    torch.set_num_threads(1)
    _start(make_finder)


def _start(make_finder: Callable[[], FindNuclei]) -> None:
    global _find
    _find = make_finder()


def _prepare_well(job: WellJob) -> dict[str, Any]:
    assert _find is not None
    return prepare_well(job, _find)

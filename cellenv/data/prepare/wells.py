"""The cells of one well: read, corrected, segmented, cut out and written; a record says what became of every nucleus.

    OUT/Week4/27481/G10_s1_7.npy              a cell: uint8 (size, size, C)
    OUT/prepare/Week4_27481/G10.json          the record of a well, written last: the well is done
    OUT/prepare/Week4_27481/G10_s1.jpg        a field with the outlines of its nuclei, for the contact sheet

C stains, H, W pixels.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from cellenv.data.layouts import week_plate_name
from cellenv.data.prepare.crops import CropRules, cut_out
from cellenv.data.prepare.fields import Field
from cellenv.data.prepare.filters import ACCEPTED, FilterRules, judge_nuclei
from cellenv.data.prepare.illumination import FieldStatistics, Scale, ScaleRules, merge, resize, summarize_field
from cellenv.data.prepare.nuclei import FindNuclei, FoundNuclei, find_nuclei
from cellenv.data.prepare.planes import Pixels, read_planes
from cellenv.data.prepare.sheets import draw_field, jpeg
from cellenv.weights_io import write_atomically

NOTES = "prepare"  # folder of records


@dataclass(frozen=True, kw_only=True)
class CellRules:
    """How fields become cells. channels: names of the stains. nucleus: the one that shows nuclei."""

    channels: tuple[str, ...]
    nucleus: str
    scale: ScaleRules
    filters: FilterRules
    crops: CropRules
    skip_bad: bool


@dataclass(frozen=True, kw_only=True)
class WellJob:
    """One well of a plate.

    zoom: px of the crop for one px of the field. drawn: names of the fields of the contact sheet. digest: of what the
    cells depend on, the fields of the plate and the zoom.
    """

    out: Path
    fields: tuple[Field, ...]
    scale: Scale
    zoom: float
    rules: CellRules
    drawn: frozenset[str]
    digest: str


def notes_of(out: Path, field: Field) -> Path:
    """Folder of the records of the field's plate."""
    return out / NOTES / f"{field.batch}_{field.plate}"


def record_of(out: Path, field: Field) -> Path:
    """Record of the field's well."""
    return notes_of(out, field) / f"{field.well}.json"


def digest_fields(fields: Sequence[Field]) -> str:
    """Digest of fields and their files: names, planes, sizes and times; a folder that is moved keeps it."""
    names = [(field.name, [(p.file.name, p.number, _size_and_time(p.file)) for p in field.planes]) for field in fields]
    return sha256(repr(names).encode()).hexdigest()[:16]


def _size_and_time(file: Path) -> tuple[int, int] | None:
    """Bytes, and ns when they were written; None without the file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def summarize_well(fields: Sequence[Field], samples: int, skip_bad: bool) -> FieldStatistics | None:
    """Statistics of the fields of a well, for the scale of its plate; None if none can be read, and `skip_bad`."""
    found: list[FieldStatistics] = []
    for field in fields:
        try:
            found.append(summarize_field(read_planes(field.planes), samples, len(found), field.name))
        except (ValueError, FileNotFoundError):
            if not skip_bad:
                raise
    return merge(found) if found else None


def prepare_well(job: WellJob, find: FindNuclei) -> dict[str, Any]:
    """Write the cells of a well, and last its record, which is returned.

    The record: `digest` of the job; `fields`, for each its `cells` (key, object, y, x, area in px of the file) and how
    many nuclei were `rejected` for which reason; `unreadable`, the messages of fields left out.
    """
    record: dict[str, Any] = {"digest": job.digest, "fields": {}, "unreadable": {}}
    for field in job.fields:
        try:
            pixels = read_planes(field.planes)
        except (ValueError, FileNotFoundError) as error:
            if not job.rules.skip_bad:
                raise
            record["unreadable"][field.name] = str(error)
        else:
            record["fields"][field.name] = _prepare_field(pixels, field, job, find)
    content = json.dumps(record, indent=1).encode()
    write_atomically(record_of(job.out, job.fields[0]), content)
    return record


def _prepare_field(pixels: Pixels, field: Field, job: WellJob, find: FindNuclei) -> dict[str, Any]:
    """Write the cells of a field; returns its entry in the record."""
    rules = job.rules
    scaled = enlarge(job.scale.normalise(pixels), job.zoom)
    dna = scaled[rules.channels.index(rules.nucleus)]
    nuclei = find_nuclei(dna, find, rules.filters.max_area)
    verdicts = judge_nuclei(nuclei, dna, rules.crops.size, rules.filters)
    chosen = [k for k, verdict in enumerate(verdicts) if verdict == ACCEPTED]
    keys = [f"{field.name}_{k + 1}" for k in chosen]
    for key, crop in zip(keys, cut_out(scaled, nuclei, chosen, rules.crops)):
        save_crop(job.out / week_plate_name(key), crop)
    if field.name in job.drawn:
        picture = draw_field(scaled, nuclei, verdicts, rules.channels)
        write_atomically(notes_of(job.out, field) / f"{field.well}_s{field.site}.jpg", jpeg(picture))
    return {
        "cells": [_cell(key, k, nuclei, job.zoom) for key, k in zip(keys, chosen)],
        "nuclei": len(verdicts),
        "rejected": dict(Counter(verdict for verdict in verdicts if verdict != ACCEPTED)),
    }


def _cell(key: str, k: int, nuclei: FoundNuclei, zoom: float) -> dict[str, Any]:
    y, x = (nuclei.centres[k] / zoom).round(1).tolist()
    return {"key": key, "object": k + 1, "y": y, "x": x, "area": round(int(nuclei.areas[k]) / zoom**2)}


def enlarge(pixels: Pixels, zoom: float) -> Pixels:
    """Field (C, H, W), each side `zoom` times as long."""
    if zoom == 1:
        return pixels
    shape = round(pixels.shape[1] * zoom), round(pixels.shape[2] * zoom)
    return np.stack([resize(plane, shape) for plane in pixels])


def save_crop(file: Path, crop: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Write a crop beside its file and rename it; the record of the well is what is synced."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        np.save(stream, crop)
    temporary.replace(file)

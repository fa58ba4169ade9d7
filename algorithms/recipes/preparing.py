"""The work of `cellfluxrl prepare`: tables to fields, fields to cells with the config's segmenter, cells to tables."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from algorithms.build import build_nucleus_segmenter
from algorithms.config import NucleusConfig
from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.files import write_whole
from algorithms.launch import available_cores
from algorithms.provenance import shell_command
from algorithms.recipes.prepare import PrepareConfig
from algorithms.recipes.prepared_summary import no_cell_left, print_summary
from cellenv.data.imaging import ImagingCells
from cellenv.data.layouts import BBBC021_UNSEEN
from cellenv.data.prepare.crops import CropRules
from cellenv.data.prepare.delimited import read_rows
from cellenv.data.prepare.fields import Columns, Field, fields_of_pattern, fields_of_table, parse_sources
from cellenv.data.prepare.filters import FilterRules
from cellenv.data.prepare.illumination import SAMPLES, ScaleRules, fit_scale, merge
from cellenv.data.prepare.nuclei import FindNuclei, find_nuclei
from cellenv.data.prepare.output import (
    compute_conditions,
    count_plates,
    index_rows,
    plate_name,
    read_conditions,
    write_tables,
)
from cellenv.data.prepare.planes import read_planes
from cellenv.data.prepare.plates import Zoom, prepare_plates
from cellenv.data.prepare.splits import Well, split_wells, without_controls
from cellenv.data.prepare.treatments import (
    add_mechanisms,
    add_structures,
    add_wells,
    mark_controls,
    select,
    structures_of,
)
from cellenv.data.prepare.wells import CellRules, summarize_well


class Plan(NamedTuple):
    """What is prepared: the fields, the embedding of their compounds, those held out.

    left_out: names of fields of no use, by reason. missing: by field, the message about a file that is not there.
    """

    fields: list[Field]
    left_out: dict[str, list[str]]
    missing: dict[str, str]
    conditions: list[list[str]]
    unseen: list[str]


def prepare(config: PrepareConfig) -> None:
    """Prepare the cells, write tables, manifest and contact sheets, print what became of every plate."""
    plan = read_plan(config)
    make_finder = partial(build_finder, config.segmenter)
    result = prepare_plates(
        plan.fields,
        config.out,
        cell_rules(config),
        zoom_of(config),
        make_finder,
        settings=settings_of(config),
        workers=config.workers or available_cores(),
    )
    write_results(config, plan, result)


def build_finder(config: NucleusConfig) -> FindNuclei:
    """The function that finds nuclei in whole fields; for a process of its own."""
    find: FindNuclei = build_nucleus_segmenter(config)[0].find_nuclei
    return find


def read_plan(config: PrepareConfig) -> Plan:
    """Read and join all tables; what cannot work is refused here, before any pixel is read."""
    fields, treatments, folder = config.fields, config.treatments, config.folder
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    stains = parse_sources(fields.stains)
    if fields.pattern is not None:
        found = fields_of_pattern(folder, fields.pattern, stains)
    else:
        assert fields.images is not None
        table = locate(fields.images, folder, "--images names it, --preset pattern takes names of files instead")
        found = fields_of_table(read_rows(table), folder, columns_of(config), stains)
    if fields.plates:
        wanted = [f for f in found if f.plate in fields.plates or plate_name(f) in fields.plates]
        if not wanted:
            raise ValueError(f"no field of plates {', '.join(fields.plates)}; there are {names_of(found)}")
        found = wanted
    for flag, file, add in (
        ("--wells", treatments.wells, add_wells),
        ("--moa", treatments.moa, add_mechanisms),
        ("--compounds", treatments.compounds, add_structures),
    ):
        if file is not None:
            found = add(found, locate(file, folder, f"{flag} names it"))
    selected, left_out = select(mark_controls(found, treatments.control), treatments.unlabelled == "compound")
    selected, missing = present(selected, config)
    compounds = sorted({f.compound for f in selected if not f.is_control})
    unseen = held_out(config.split.unseen, compounds)
    if treatments.embeddings is not None:
        conditions = read_conditions(locate(treatments.embeddings, folder, "--embeddings names it"), compounds)
    else:
        structures = structures_of(selected)
        conditions = compute_conditions({name: structures[name] for name in compounds})
    return Plan(selected, left_out, missing, conditions, unseen)


def held_out(names: Sequence[str] | None, compounds: Sequence[str]) -> list[str]:
    """The compounds of these names, whatever their case; None: of CellFlux's, as far as they are there."""
    spelled = {compound.casefold(): compound for compound in compounds}
    if names is None:
        names = [name for name in BBBC021_UNSEEN if name.casefold() in spelled]
    if unknown := sorted(name for name in names if name.casefold() not in spelled):
        raise ValueError(f"--unseen {', '.join(unknown)}: there are {', '.join(compounds)}")
    return [spelled[name.casefold()] for name in names]


def locate(file: Path, folder: Path, hint: str) -> Path:
    """A table in the folder of the fields, or else as the path says; FileNotFoundError with the hint if at neither."""
    for place in (folder / file, file):
        if place.is_file():
            return place
    raise FileNotFoundError(f"there is no table {file}, in {folder} or from here: {hint}")


def names_of(fields: Sequence[Field]) -> str:
    """Plates of the fields, in words."""
    return ", ".join(sorted({plate_name(field) for field in fields}))


def columns_of(config: PrepareConfig) -> Columns:
    """Columns of the table of fields."""
    fields, treatments = config.fields, config.treatments
    return Columns(
        file=fields.file_column,
        folder=fields.folder_column,
        batch=fields.batch_column,
        plate=fields.plate_column,
        well=fields.well_column,
        site=fields.site_column,
        compound=treatments.compound_column,
        dose=treatments.dose_column,
        moa=treatments.moa_column,
        smiles=treatments.smiles_column,
    )


def present(fields: list[Field], config: PrepareConfig) -> tuple[list[Field], dict[str, str]]:
    """The fields whose files are there, and messages about the others, which are an error unless they are skipped."""
    absent = {f.name: plane.file for f in fields for plane in f.planes if not plane.file.is_file()}
    kept = [field for field in fields if field.name not in absent]
    if absent and (not config.fields.skip_bad or not kept):
        first = next(iter(absent.values()))
        raise FileNotFoundError(
            f"{len(absent)} of {len(fields)} fields lack a file, the first is {first}: --skip-bad leaves them out,"
            f" --plates chooses among {names_of(fields)}"
        )
    return kept, {name: f"{file} is missing" for name, file in absent.items()}


def cell_rules(config: PrepareConfig) -> CellRules:
    """How fields become cells."""
    scale, crops = config.scale, config.crops
    return CellRules(
        channels=tuple(parse_sources(config.fields.stains)),
        nucleus=config.fields.nucleus,
        scale=ScaleRules(
            divide_light=scale.illumination,
            sigma=scale.smoothing,
            subtract_dark=scale.background,
            low=scale.low,
            high=scale.high,
        ),
        filters=FilterRules(min_area=crops.min_area, max_area=crops.max_area, max_blur=crops.max_blur),
        crops=CropRules(size=crops.crop, stretch=scale.stretch, neighbours=crops.neighbours),
        skip_bad=config.fields.skip_bad,
    )


def zoom_of(config: PrepareConfig) -> Zoom:
    """How large a cell becomes."""
    crops = config.crops
    factor = None
    if crops.resolution is not None and crops.pixel_size is not None:
        factor = crops.resolution * crops.pixel_size
    return Zoom(factor=factor, nucleus=crops.crop_nucleus, diameter=crops.nucleus_diameter)


def settings_of(config: PrepareConfig) -> dict[str, Any]:
    """What the cells depend on; not what the tables alone do."""
    segmenter = build_nucleus_segmenter(config.segmenter)[1]
    stains = [f"{name}={source}" for name, source in parse_sources(config.fields.stains).items()]
    seen = {"stains": stains, "nucleus": config.fields.nucleus, "segmenter": segmenter}
    return seen | asdict(config.scale) | asdict(config.crops)


def write_results(config: PrepareConfig, plan: Plan, result: dict[str, Any]) -> None:
    """Split the wells, write tables and manifest, print a summary."""
    records, split_config = result["fields"], config.split
    wells = sorted(
        {
            Well(plate_name(f), f.well, f.compound, f.is_control)
            for f in plan.fields
            if f.name in records and records[f.name]["cells"]
        }
    )
    split = split_wells(wells, split_config.split_by, split_config.test, plan.unseen, split_config.seed)
    unpaired = without_controls(wells, split)
    paired = {well: side for well, side in split.items() if well not in unpaired}
    rows = index_rows(plan.fields, records, paired, plan.unseen)
    plates = count_plates(plan.fields, records)
    if not any(row["STATE"] for row in rows):
        raise ValueError(no_cell_left(config.out, plates))
    write_tables(config.out, rows, plan.conditions)
    cells = Counter((row["SPLIT"], row["CPD_NAME"]) for row in rows)
    manifest = {
        "command": shell_command(),
        "versions": {name: version(name) for name in ("cellfluxrl", "torch", "numpy", "scipy", "tifffile", "pillow")},
        "settings": settings_of(config),
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "zoom": result["zoom"],
        "plates": plates,
        "scales": result["scales"],
        "cells": {side: {name: n for (s, name), n in sorted(cells.items()) if s == side} for side in ("train", "test")},
        "unseen": plan.unseen,
        "fields_left_out": plan.left_out,
        "unreadable": plan.missing | result["unreadable"],
        "wells_without_controls_in_their_split": sorted(" ".join(well) for well in unpaired),
    }
    write_whole(config.out / "manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
    if config.cache is not None:
        ImagingCells(config.out, None, unseen=None, cache=config.cache)
    print_summary(config.out, plates, manifest, cell_rules(config))


def estimate_preparing(config: PrepareConfig) -> Estimate:
    """Scale the time of one field, read twice and segmented once, to all of them."""
    plan, rules = read_plan(config), cell_rules(config)
    fields, find = plan.fields, build_finder(config.segmenter)
    statistics = summarize_well(fields[:1], SAMPLES, skip_bad=False)
    assert statistics is not None
    scale = fit_scale(merge([statistics]), rules.scale, rules.channels)

    def work() -> Tensor | object:
        summarize_well(fields[:1], SAMPLES // len(fields), skip_bad=False)
        scaled = scale.normalise(read_planes(fields[0].planes))
        return find_nuclei(scaled[rules.channels.index(rules.nucleus)], find, rules.filters.max_area)

    workers = config.workers or available_cores()
    return Estimate(nfe=0, seconds=1.3 * seconds_of(work) * len(fields) / workers, memory=peak_memory())

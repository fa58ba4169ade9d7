"""Measure real images through a segmenter and fit the statistics of each mechanism of action (MoA). N images."""

import torch
from rich.box import SIMPLE
from rich.table import Column, Table
from torch import Tensor

from algorithms.build import build_cells, build_segmenter, check_labelled
from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.launch import start_processes
from algorithms.processes import map_batches
from algorithms.provenance import shell_command
from algorithms.recipes.fit.reference import ReferenceConfig
from algorithms.terminal import show
from cellenv.data.cells import CellData
from rewards.measures import measure
from rewards.reference import Reference
from rewards.segmentation import Segmenter


def fit_reference(config: ReferenceConfig) -> None:
    """Measure the images, fit the statistics, save and print them.

    Raises:
        ValueError: the data have no MoAs, or too few images of one.
    """
    processes = start_processes(timeout=config.distributed.timeout)
    data = build_cells(config.data, config.split)
    check_labelled(data)
    segmenter, segmenter_id = build_segmenter(config.segmentation)
    rows = draw_rows(data, config)
    measures = measure_rows(data, rows, segmenter, config.batch_size)
    about = {
        "command": shell_command(),
        "split": config.split,
        "images": len(rows),
        "segmenter": segmenter_id,
    }
    moa = data.compound_moa[data.perturbation[rows]]
    reference = Reference.fit(measures, moa, data.moas, min_cells=config.min_cells, about=about)
    if not processes.is_main_process:
        return
    reference.save(config.output)
    show(reference_table(reference), f"wrote {config.output}")


def draw_rows(data: CellData, config: ReferenceConfig) -> Tensor:
    """Treated rows in random order, at most `limit`."""
    order = torch.randperm(len(data.treated), generator=torch.Generator().manual_seed(config.seed))
    return data.treated[order[: config.limit]]


def measure_rows(data: CellData, rows: Tensor, segmenter: Segmenter, batch_size: int) -> dict[str, Tensor]:
    """Every measure of these rows, (N,) each, on every process; nan where undefined."""
    parts = map_batches(
        lambda batch: dict(measure(segmenter(data.images(batch), data.channels))), rows.split(batch_size), "measure"
    )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def reference_table(reference: Reference) -> Table:
    """Mean and standard deviation of every measure, one row for each MoA."""
    names = [name.replace("_", " ") for name in reference.mean]
    table = Table(Column("MoA", no_wrap=True), "n", *names, title="mean ± standard deviation", box=SIMPLE)
    for m, moa in enumerate(reference.moas):
        cells = []
        for name, mean in reference.mean.items():
            digits = 0 if mean[m] >= 10 else 2
            cells.append(f"{mean[m]:.{digits}f}\n±{reference.std[name][m]:.{digits}f}")
        table.add_row(moa, str(int(reference.count[m])), *cells)
    return table


def estimate_fit(config: ReferenceConfig) -> Estimate:
    """Scale the time of measuring one batch of images to all of them."""
    data = build_cells(config.data, config.split)
    segmenter, _ = build_segmenter(config.segmentation)
    rows = draw_rows(data, config)
    batch = rows[: config.batch_size]
    seconds = seconds_of(lambda: measure(segmenter(data.images(batch), data.channels))) * len(rows) / len(batch)
    return Estimate(nfe=0, seconds=seconds, memory=peak_memory())

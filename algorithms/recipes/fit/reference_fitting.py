"""Measure real images through a segmenter and fit their statistics by mechanism (MoA), compound, or of controls.

N images.
"""

from collections.abc import Sequence

import torch
from rich.box import SIMPLE
from rich.table import Column, Table
from torch import Tensor

from algorithms.build import build_cells, build_segmenter, check_labelled
from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.inspection.cached import check_data
from algorithms.launch import start_processes
from algorithms.processes import map_batches
from algorithms.provenance import shell_command
from algorithms.recipes.fit.reference import ReferenceConfig
from algorithms.terminal import show
from cellenv.data.cells import CellData
from rewards.measures import measure
from rewards.reference import TITLES, Condition, Reference
from rewards.segmentation import Segmenter


def fit_reference(config: ReferenceConfig) -> None:
    """Measure the images, fit the statistics, save and print them.

    Raises:
        ValueError: too few images of a MoA or compound, or the data have no MoAs and these are asked for.
    """
    processes = start_processes(timeout=config.distributed.timeout)
    check_data(config.data, splits=(config.split,))
    data = build_cells(config.data, config.split)
    by = condition_of(data, config)
    segmenter, segmenter_id = build_segmenter(config.segmentation)
    rows = draw_rows(data, config)
    measures = measure_rows(data, rows, segmenter, config.batch_size)
    about = {
        "command": shell_command(),
        "split": config.split,
        "images": len(rows),
        "segmenter": segmenter_id,
    }
    population, names = populations_of(data, rows, by)
    reference = Reference.fit(measures, population, names, by=by, min_cells=config.min_cells, about=about)
    if not processes.is_main_process:
        return
    reference.save(config.output)
    show(reference_table(reference), f"wrote {config.output}")


def condition_of(data: CellData, config: ReferenceConfig) -> Condition:
    """What the statistics are fitted by.

    Raises:
        ValueError: by mechanisms of action, and the data have none.
    """
    if config.by == "moa":
        check_labelled(data)
    if config.by != "auto":
        return config.by
    return "moa" if data.moas else "compound"


def draw_rows(data: CellData, config: ReferenceConfig) -> Tensor:
    """Treated rows, or controls, in random order, at most `limit`."""
    rows = data.controls if condition_of(data, config) == "controls" else data.treated
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(config.seed))
    return rows[order[: config.limit]]


def populations_of(data: CellData, rows: Tensor, by: Condition) -> tuple[Tensor, Sequence[str]]:
    """Id of the population of each of these rows, (N,), and the names: of compounds, those that the rows show."""
    if by == "controls":
        return torch.zeros_like(rows), ["controls"]
    if by == "moa":
        return data.compound_moa[data.perturbation[rows]], data.moas
    shown, ids = data.perturbation[rows].unique(return_inverse=True)
    return ids, [data.compounds[p] for p in shown.tolist()]


def measure_rows(data: CellData, rows: Tensor, segmenter: Segmenter, batch_size: int) -> dict[str, Tensor]:
    """Every measure of these rows, (N,) each, on every process; nan where undefined."""
    parts = map_batches(
        lambda batch: dict(measure(segmenter(data.images(batch), data.channels))), rows.split(batch_size), "measure"
    )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def reference_table(reference: Reference) -> Table:
    """Mean and standard deviation of every measure, one row for each population."""
    names = [name.replace("_", " ") for name in reference.mean]
    table = Table(
        Column(TITLES[reference.by], no_wrap=True), "n", *names, title="mean ± standard deviation", box=SIMPLE
    )
    for m, population in enumerate(reference.populations):
        cells = []
        for name, mean in reference.mean.items():
            digits = 0 if mean[m] >= 10 else 2
            cells.append(f"{mean[m]:.{digits}f}\n±{reference.std[name][m]:.{digits}f}")
        table.add_row(population, str(int(reference.count[m])), *cells)
    return table


def estimate_fit(config: ReferenceConfig) -> Estimate:
    """Scale the time of measuring one batch of images to all of them."""
    data = build_cells(config.data, config.split)
    segmenter, _ = build_segmenter(config.segmentation)
    rows = draw_rows(data, config)
    batch = rows[: config.batch_size]
    seconds = seconds_of(lambda: measure(segmenter(data.images(batch), data.channels))) * len(rows) / len(batch)
    return Estimate(nfe=0, seconds=seconds, memory=peak_memory())

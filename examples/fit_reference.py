"""Fit the reference statistics: mean and standard deviation of every measure on real treated images, per mechanism of
action (MoA), seen through the segmenter that rewards use.

    python examples/fit_reference.py --output rewards/assets/reference.json
    python examples/fit_reference.py --data DIR --segmenter cellpose --output runs/reference.json
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse
from options import SeenCells


@dataclass(frozen=True, kw_only=True)
class Config(SeenCells):
    split: str = "train"
    output: Path = Path("runs/reference.json")
    min_cells: int = 30  # images an MoA needs
    batch: int = 256  # images at once
    limit: int | None = None  # images, drawn at random; all when None
    seed: int = 0  # of the draw


PRESETS = {"default": Config(), "smoke": Config(limit=96, min_cells=2)}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import shlex
import sys

import torch
from loading import check_labelled, load_cells, load_segmenter
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor
from tqdm import tqdm

from cellenv.data.cells import CellData
from rewards.measures import measure
from rewards.reference import Reference
from rewards.segmentation import Segmenter


def measure_rows(data: CellData, rows: Tensor, segmenter: Segmenter, batch: int) -> dict[str, Tensor]:
    """Every measure of these rows, (N,) each."""
    parts = [
        measure(segmenter(data.images(chosen), data.channels))
        for chosen in tqdm(rows.split(batch), desc="measure", unit="batch")
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def show(reference: Reference) -> None:
    """Mean and standard deviation, a row an MoA."""
    table = Table(
        Column("MoA", no_wrap=True),
        "n",
        *(name.replace("_", " ") for name in reference.mean),
        title="mean ± standard deviation",
        box=SIMPLE,
    )
    for m, moa in enumerate(reference.moas):
        digits = {name: 0 if mean[m] >= 10 else 2 for name, mean in reference.mean.items()}
        cells = [f"{reference.mean[name][m]:.{d}f}\n±{reference.std[name][m]:.{d}f}" for name, d in digits.items()]
        table.add_row(moa, str(int(reference.count[m])), *cells)
    Console().print(table)


def main(config: Config) -> None:
    data = load_cells(config, config.split)
    check_labelled(data)
    segmenter, name = load_segmenter(config)
    order = torch.randperm(len(data.treated), generator=torch.Generator().manual_seed(config.seed))
    rows = data.treated[order[: config.limit]]
    measures = measure_rows(data, rows, segmenter, config.batch)
    about = {
        "command": f"python {shlex.join(sys.argv)}",
        "split": config.split,
        "images": len(rows),
        "segmenter": name,
    }
    moa = data.compound_moa[data.perturbation[rows]]
    reference = Reference.fit(measures, moa, data.moas, min_cells=config.min_cells, about=about)
    reference.save(config.output)
    show(reference)
    print(f"wrote {config.output}")


if __name__ == "__main__":
    main(CONFIG)

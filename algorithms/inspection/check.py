"""Check a folder of cells before training: what it holds, what is wrong with it, and by which flag that is mended.

    cellfluxrl check CELLS
    cellfluxrl check CELLS --layout jump --channels Mito,AGP,RNA,ER,DNA --cytoplasm AGP --embeddings FILE

Reads both tables and every image once; prints a page, writes it as HTML too, and exits with code 1 if a run would stop
at one of the problems. `train` and `evaluate` do the same first, and remember the result until a file changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from algorithms.config import FolderConfig

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Settings of the check of a folder."""

    folder: Positional[Path] = field(default_factory=lambda: Path("."))  # with both tables and the images
    output: Path = Path("runs/check.html")
    min_cells: int = 30  # images that a mechanism or compound needs in the train split, as in `fit reference`
    include_unseen: bool = False  # held-out compounds are trained on too
    data: FolderConfig = FolderConfig()


PRESETS = {"default": CheckConfig()}


def main(config: CheckConfig) -> None:
    """Inspect the folder, print the page and write it; exit with code 1 if a run would stop."""
    from rich.console import Console

    from algorithms.build import build_layout
    from algorithms.files import write_whole
    from algorithms.inspection.cached import inspect_anew
    from algorithms.inspection.report import page, tables
    from cellenv.data.inspection.inspect_folder import CellFolder

    folder = CellFolder.read(
        config.folder,
        layout=build_layout(config.folder, config.data),
        include_unseen=config.include_unseen,
        skip_bad=config.data.skip_bad,
        min_cells=config.min_cells,
    )
    inspection = inspect_anew(folder, config.data.cache)
    Console().print(*tables(inspection), sep="\n")
    write_whole(config.output, page(inspection).encode())
    print(f"wrote {config.output}")
    if inspection.stops:
        raise SystemExit(1)


def estimate(config: CheckConfig) -> Estimate:
    """Scale the time of reading a few images to all of them."""
    from algorithms.build import build_layout
    from algorithms.estimate import Estimate, peak_memory, seconds_of
    from cellenv.data.inspection.image_scan import scan_images
    from cellenv.data.inspection.inspect_folder import CellFolder

    folder = CellFolder.read(config.folder, layout=build_layout(config.folder, config.data))
    n, few = len(folder.table), min(64, len(folder.table))
    seconds = seconds_of(lambda: scan_images(folder.files, range(few), folder.layout.channels))
    return Estimate(nfe=0, seconds=seconds * n / max(few, 1), memory=peak_memory())


if __name__ == "__main__":
    from algorithms.cli import run

    run("check")

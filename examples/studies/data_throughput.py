"""Images per second from a folder of cells: while it is packed once, and from the packed copy.

    python -m examples.studies.data_throughput --images 98000    # a folder of random images, removed at the end
    python -m examples.studies.data_throughput --data DATA       # in the CellFlux layout; its packed copy is removed

Batches hold random images, as in training: uint8, and float32 in [-1, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig:
    data: Path | None = None  # None: a folder of random images
    layout: Literal["bbbc021", "rxrx1", "jump"] = "bbbc021"  # of data
    images: int = 10_000  # of the folder of random images; each takes 28 kB twice
    batch_size: int = 128
    epochs: int = 2
    threads: int = 1  # of PyTorch
    seed: int = 0


PRESETS = {"default": ThroughputConfig(), "smoke": ThroughputConfig(images=200, epochs=1)}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import csv
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from cellenv.data.imaging import ImagingCells
from cellenv.data.layouts import BBBC021, LAYOUTS

SIZE = (96, 96, 3)  # of the random images
WEEKS, PLATES, COMPOUNDS = 10, 5, 26  # plates are those of a week


def write_random_folder(folder: Path, n: int, rng: np.random.Generator) -> None:
    """Write n random images and their tables in the layout of BBBC021; every seventh is a control."""
    header = ("", "SAMPLE_KEY", "BATCH", "PLATE", "CPD_NAME", "ANNOT", "STATE", "SPLIT")
    rows = []
    for i in tqdm(range(n), desc="write", unit="image"):
        week, plate, compound = f"Week{i % WEEKS}", i // WEEKS % PLATES, i % COMPOUNDS
        key = f"{week}_{plate}_{i}_0.0"
        file = folder / BBBC021.file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.frombuffer(rng.bytes(np.prod(SIZE)), np.uint8).reshape(SIZE))
        treatment = ("DMSO", "DMSO", 0) if i % 7 == 0 else (f"compound {compound}", f"mechanism {compound % 12}", 1)
        rows.append((i, key, week, plate, *treatment, "train"))
    embeddings = [("", "0"), ("DMSO", 0.0), *((f"compound {k}", float(k)) for k in range(COMPOUNDS))]
    for name, table in (("random_df_all.csv", [header, *rows]), ("emb_random.csv", embeddings)):
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(table)


def images_per_second(read: Callable[[Tensor], object], rows: Tensor, batch_size: int, name: str) -> float:
    """Rate of reading all rows in batches."""
    start = perf_counter()
    with tqdm(total=len(rows), desc=name, unit="image") as bar:
        for batch in rows.split(batch_size):
            read(batch)
            bar.update(len(batch))
    return len(rows) / (perf_counter() - start)


def measure(folder: Path, cache: Path, config: ThroughputConfig) -> dict[str, float]:
    """Images per second by activity."""
    layout = LAYOUTS[config.layout if config.data else "bbbc021"]
    start = perf_counter()
    data = ImagingCells(folder, None, cache=cache, layout=layout, unseen=None)
    packed = len(data) / (perf_counter() - start)
    start = perf_counter()
    data = ImagingCells(folder, None, cache=cache, layout=layout, unseen=None)
    opened = len(data) / (perf_counter() - start)
    rng = torch.Generator().manual_seed(config.seed)
    rows = torch.cat([torch.randperm(len(data), generator=rng) for _ in range(config.epochs)])
    files = ImagingCells(folder, None, layout=layout, unseen=None)
    few_rows = rows[: len(data) // 10 or 1]
    return {
        "read the tables, pack": packed,
        "read the tables, open the packed copy": opened,
        "files, float32": images_per_second(files.images, few_rows, config.batch_size, "files"),
        "packed, uint8": images_per_second(data.raw, rows, config.batch_size, "uint8"),
        "packed, float32": images_per_second(data.images, rows, config.batch_size, "float32"),
    }


def main(config: ThroughputConfig) -> None:
    torch.set_num_threads(config.threads)
    with TemporaryDirectory(prefix="cells-") as temporary:
        folder = config.data or Path(temporary) / "folder"
        if config.data is None:
            folder.mkdir()
            write_random_folder(folder, config.images, np.random.default_rng(config.seed))
        rates = measure(folder, Path(temporary) / "cache", config)
    table = Table("", "images/s", title=f"{config.data or f'{config.images} random images'}, {config.threads} threads")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main(CONFIG)

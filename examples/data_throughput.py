"""Images a second that a folder of cells gives: while it is packed once, and from the packed copy.

    python examples/data_throughput.py --images 98000     # a folder of random images, removed at the end
    python examples/data_throughput.py --data DATA        # a folder in the CellFlux layout; its packed copy is removed

Batches hold random images, as in training: bytes, and float32 in [-1, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    data: Path | None = None  # None: a folder of random images
    layout: Literal["bbbc021", "rxrx1", "jump"] = "bbbc021"  # of data
    images: int = 10_000  # of the folder of random images; each takes 28 kB twice
    batch_size: int = 128
    passes: int = 2  # over all images
    threads: int = 1  # of PyTorch
    seed: int = 0


PRESETS = {"default": Config(), "smoke": Config(images=200, passes=1)}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

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
from cellenv.data.presets import BBBC021, LAYOUTS

SIZE, WEEKS, PLATES, COMPOUNDS = (96, 96, 3), 10, 5, 26  # of the random images; plates are those of a week


def write_folder(folder: Path, n: int, rng: np.random.Generator) -> None:
    """n random images and their tables, laid out as BBBC021; every seventh is a control."""
    header = ("", "SAMPLE_KEY", "BATCH", "PLATE", "CPD_NAME", "ANNOT", "STATE", "SPLIT")
    rows = []
    for i in tqdm(range(n), desc="write", unit="image"):
        week, plate, compound = f"Week{i % WEEKS}", i // WEEKS % PLATES, i % COMPOUNDS
        key = f"{week}_{plate}_{i}_0.0"
        file = folder / BBBC021.file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.frombuffer(rng.bytes(np.prod(SIZE)), np.uint8).reshape(SIZE))
        said = ("DMSO", "DMSO", 0) if i % 7 == 0 else (f"compound {compound}", f"mechanism {compound % 12}", 1)
        rows.append((i, key, week, plate, *said, "train"))
    names = [("DMSO", 0.0), *((f"compound {k}", float(k)) for k in range(COMPOUNDS))]
    for name, table in (("random_df_all.csv", [header, *rows]), ("emb_random.csv", [("", "0"), *names])):
        with (folder / name).open("w", newline="") as stream:
            csv.writer(stream).writerows(table)


def rate(read: Callable[[Tensor], Tensor], rows: Tensor, batch_size: int, name: str) -> float:
    """Images a second."""
    start = perf_counter()
    with tqdm(total=len(rows), desc=name, unit="image") as bar:
        for batch in rows.split(batch_size):
            read(batch)
            bar.update(len(batch))
    return len(rows) / (perf_counter() - start)


def measure(folder: Path, cache: Path, config: Config) -> dict[str, float]:
    """What was done -> images a second."""
    options = {"layout": LAYOUTS[config.layout if config.data else "bbbc021"], "unseen": None}
    start = perf_counter()
    data = ImagingCells(folder, None, cache=cache, **options)
    packed = len(data) / (perf_counter() - start)
    start = perf_counter()
    data = ImagingCells(folder, None, cache=cache, **options)
    opened = len(data) / (perf_counter() - start)
    rng = torch.Generator().manual_seed(config.seed)
    rows = torch.cat([torch.randperm(len(data), generator=rng) for _ in range(config.passes)])
    files = ImagingCells(folder, None, **options)
    return {
        "read the tables, pack": packed,
        "read the tables, open the packed copy": opened,
        "files, float32": rate(files.images, rows[: len(data) // 10 or 1], config.batch_size, "files"),
        "packed, uint8": rate(data.raw, rows, config.batch_size, "uint8"),
        "packed, float32": rate(data.images, rows, config.batch_size, "float32"),
    }


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    with TemporaryDirectory(prefix="cells-") as temporary:
        folder = config.data or Path(temporary) / "folder"
        if config.data is None:
            folder.mkdir()
            write_folder(folder, config.images, np.random.default_rng(config.seed))
        found = measure(folder, Path(temporary) / "cache", config)
    table = Table("", "images/s", title=f"{config.data or f'{config.images} random images'}, {config.threads} threads")
    for name, images in found.items():
        table.add_row(name, f"{images:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main(CONFIG)

"""Segment and measure the cells of a folder in the CellFlux layout, and show what was found.

    python examples/score_images.py DATA --output-dir OUT

OUT/measures.csv holds one row an image, empty where a measure is undefined; OUT/contact_sheet.png shows 64 of them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from options import Eyes, Folder


@dataclass(frozen=True, kw_only=True)
class Config(Folder, Eyes):
    data: tyro.conf.Positional[Path] = field()  # folder with *_df_all.csv, emb_*.csv and the images
    output_dir: Path = Path("runs/scores")
    classifier: Path | None = None  # weights of a MoA classifier, or a folder that holds them; None: no MoA score
    limit: int | None = None  # images, drawn at random; all when None
    seed: int = 0  # of that draw, and of the contact sheet's


if __name__ == "__main__":
    CONFIG = tyro.cli(Config, description=__doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import csv
import sys
from io import StringIO

import numpy as np
import torch
from loading import load_folder, load_segmenter
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from algorithms.files import save_png, write_whole
from cellenv.data.imaging import ImagingCells
from cellenv.data.table import Faults, only_file, read_table
from cellenv.pictures import grid, outlines
from rewards.classifier import MoAClassifier
from rewards.measures import measure
from rewards.segmentation import Segmenter

MEASURES = ("nucleus_count", "cell_count", "nucleus_area_max", "cell_area_max", "roundness", "containment")
HEADINGS = ("nuclei", "cells", "nucleus px²", "cell px²", "roundness", "contained", "P(MoA)")  # of the printed table
COLUMNS = ("sample_key", "compound", "moa", "state", *MEASURES, "moa_probability")
BATCH, SHEET, SHEET_ROW = 64, 64, 8  # images at once; in the contact sheet; in a row of it


def load_classifier(path: Path) -> MoAClassifier:
    """The classifier of a .safetensors file or a folder."""
    inside = path / "classifier.safetensors"
    return MoAClassifier.from_pretrained(inside if inside.is_file() else path)


def moa_probability(classifier: MoAClassifier | None, images: Tensor, moas: list[str]) -> list[float]:
    """Probability of the true MoA of each image; nan for controls and for a MoA that the classifier does not know."""
    if classifier is None:
        return [float("nan")] * len(images)
    with torch.no_grad():
        probability = classifier(images).softmax(1)  # (B, M)
    known = {name: m for m, name in enumerate(classifier.moas)}
    return [float(p[known[moa]]) if moa in known else float("nan") for p, moa in zip(probability, moas, strict=True)]


def score(
    cells: ImagingCells, rows: Tensor, segmenter: Segmenter, classifier: MoAClassifier | None
) -> list[dict[str, str | float]]:
    """One record for each row, with the keys COLUMNS."""
    layout, faults = cells.layout, Faults(skip=True)  # those that `cells` was told to skip
    written = {row["SAMPLE_KEY"]: row for row in read_table(only_file(cells.path, layout.index), layout, faults)}
    records = []
    with tqdm(total=len(rows), desc="scoring", unit="image") as bar:
        for part in rows.split(BATCH):
            images, table = cells.images(part), [written[cells.keys[row]] for row in part.tolist()]
            moas = [row[layout.label] if layout.label else "" for row in table]
            values = measure(segmenter(images, cells.channels))
            values["moa_probability"] = moa_probability(classifier, images, moas)
            for i, row in enumerate(table):
                names = (row["SAMPLE_KEY"], row[layout.compound], moas[i], row[layout.state])
                numbers = (float(values[name][i]) for name in COLUMNS[4:])
                records.append(dict(zip(COLUMNS, (*names, *numbers), strict=True)))
            bar.update(len(part))
    return records


def write_csv(records: list[dict[str, str | float]], file: Path) -> None:
    """Six significant digits; undefined is empty."""

    def text(value: str | float) -> str:
        return value if isinstance(value, str) else "" if np.isnan(value) else f"{value:.6g}"

    content = StringIO()
    writer = csv.DictWriter(content, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: text(value) for key, value in record.items()} for record in records)
    write_whole(file, content.getvalue().encode())


def write_sheet(cells: ImagingCells, rows: Tensor, segmenter: Segmenter, file: Path) -> None:
    """The images with the outlines of nuclei (white) and cells (amber); their keys stand to the left of each row."""
    images = cells.images(rows)
    pictures = outlines(images, segmenter(images, cells.channels), cells.channels)
    parts = [slice(i, i + SHEET_ROW) for i in range(0, len(rows), SHEET_ROW)]
    keys = ["\n".join(cells.keys[row] for row in rows[part].tolist()) for part in parts]
    save_png(grid([pictures[part] for part in parts], keys), file)


def table_of(records: list[dict[str, str | float]], title: str) -> Table:
    """Mean of each measure over the images of a MoA where it is defined."""
    table = Table("MoA", "images", *HEADINGS, title=title)
    for moa in sorted({str(record["moa"]) for record in records}):
        own = [record for record in records if record["moa"] == moa]
        means = []
        for name in COLUMNS[4:]:
            defined = [record[name] for record in own if not np.isnan(record[name])]
            means.append(f"{np.mean(defined):.4g}" if defined else "")
        table.add_row(moa, str(len(own)), *means)
    return table


def main(config: Config) -> None:
    """Score the images, write both files, print the table."""
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"limit must be at least 1 image, got {config.limit}")
    cells = load_folder(config, None, unseen=None)
    segmenter, _ = load_segmenter(config)
    classifier = None if config.classifier is None else load_classifier(config.classifier)
    drawn = torch.randperm(len(cells), generator=torch.Generator().manual_seed(config.seed))[: config.limit]

    records = score(cells, drawn.sort().values, segmenter, classifier)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    write_csv(records, config.output_dir / "measures.csv")
    write_sheet(cells, drawn[:SHEET].sort().values, segmenter, config.output_dir / "contact_sheet.png")

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table_of(records, f"{config.data}: {len(records)} images, {config.segmenter} segmenter"))
    share = np.mean([record["nucleus_count"] >= 1 for record in records])
    console.print(
        f"{share:.2%} of the images have a nucleus. Wrote measures.csv, contact_sheet.png to {config.output_dir}"
    )


if __name__ == "__main__":
    main(CONFIG)

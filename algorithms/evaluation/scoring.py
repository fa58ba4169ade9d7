"""Measures and rewards of every image of a folder, as a table, a CSV file and a contact sheet.

B batch, C channels, H, W pixels, M mechanisms of action (MoA). A MoA id of -1 is unknown; controls have it.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich.table import Column, Table
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import Compose

from algorithms.build import build_folder, build_rewards, build_segmenter
from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.evaluation.evaluator import CachedCall
from algorithms.evaluation.score import ScoreConfig
from algorithms.files import save_png, write_whole
from algorithms.launch import start_processes
from algorithms.processes import map_batches
from algorithms.terminal import show
from cellenv.csv_io import spreadsheet_text
from cellenv.data.imaging import ImagingCells
from cellenv.data.table import RowErrors, find_file, read_table
from cellenv.pictures import grid, outlines
from rewards import SUITE, ImageReward, MoAClassifier, cellflux_rewards, configure
from rewards.measures import measure
from rewards.segmentation import Segmenter

SHEET, SHEET_ROW = 64, 8  # images on the contact sheet, and in a row of it
TEXT_COLUMNS = ("sample_key", "compound", "moa", "state")
PROBABILITY = "moa_probability"

Record = dict[str, str | float]


class FolderScorer:
    """Measures, probability of the true MoA, and rewards (`reward_NAME`) of images.

    Rewards added with --reward are always scored; those of the suite if a reference is given, and a classifier where
    the cells have mechanisms of action.
    """

    def __init__(self, config: ScoreConfig, cells: ImagingCells):
        reward, self.cells = config.reward, cells
        suite = None
        if reward.reference is not None and (reward.classifier is not None or not cells.moas):
            suite = build_rewards(reward, "cpu", cells)
        segmenter = build_segmenter(reward)[0] if suite is None else suite.segmenter
        self.segmenter = cast(Segmenter, CachedCall(segmenter))  # measures and rewards share the masks
        self.classifier: MoAClassifier | None = None
        if reward.classifier is not None:
            self.classifier = MoAClassifier.from_pretrained(reward.classifier)
        self.moas = tuple(cells.moas)  # whose ids the rewards read
        if suite is not None and suite.reference.by == "moa":
            self.moas = suite.reference.populations
        elif self.classifier is not None:
            self.moas = self.classifier.moas
        if suite is None:
            self.rewards = added_rewards(reward.terms, self.segmenter, cells.channels)
        else:
            self.rewards = suite.transform(cells.channels, self.segmenter)

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        """Numbers of the images in these rows by column, (B,) each; nan if undefined."""
        cells = self.cells
        images, compound = cells.images(rows), cells.perturbation[rows]
        moa = torch.where(compound >= 0, cells.compound_moa[compound.clamp(min=0)], -1)
        values = dict(measure(self.segmenter(images, cells.channels)))
        values[PROBABILITY] = self._moa_probability(images, moa)
        if self.rewards is not None:
            ids = {"moa": translate_ids(moa, cells.moas, self.moas), "perturbation": compound}
            values |= score_rewards(self.rewards, images, ids)
        return values

    def _moa_probability(self, images: Tensor, moa: Tensor) -> Tensor:
        """Probability of the true MoA, (B,); nan if it is unknown, to the data or to the classifier."""
        if self.classifier is None:
            return torch.full((len(images),), torch.nan)
        true = translate_ids(moa, self.cells.moas, self.classifier.moas)
        probability = self.classifier(images).softmax(1)  # (B, M)
        return torch.where(true >= 0, probability.gather(1, true.clamp(min=0).unsqueeze(1)).squeeze(1), torch.nan)


def added_rewards(terms: Sequence[str], segmenter: Segmenter, channels: Sequence[str]) -> Compose | None:
    """Transform of the rewards that the terms add to the suite; None if they add none."""
    suite = {spec.name for spec in SUITE}
    added = [spec for spec in configure(terms) if spec.name not in suite]
    return cellflux_rewards(segmenter, suite=added, channels=channels) if added else None


def score_rewards(rewards: Compose, images: Tensor, ids: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`reward_NAME` of images (B, C, H, W), (B,) each; nan for a reward that reads an id, (B,), where that is -1."""
    known = {name: value.clamp(min=0) for name, value in ids.items()}
    scored = rewards(TensorDict({"action": images, **known}, [len(images)]))["rewards"]
    values = {}
    for reward in rewards:
        if isinstance(reward, ImageReward):
            value = scored[reward.name].reshape(-1)
            for own in (ids[key] for key in ids if key in reward.in_keys):
                value = torch.where(own < 0, torch.nan, value)
            values[f"reward_{reward.name}"] = value
    return values


def translate_ids(ids: Tensor, names: Sequence[str], other_names: Sequence[str]) -> Tensor:
    """The ids in `other_names` of what the ids (B,) mean in `names`; -1 if it is not there, or unknown already."""
    places = {name: place for place, name in enumerate(other_names)}
    return torch.tensor([*(places.get(name, -1) for name in names), -1])[ids]  # id -1 takes the last entry


def score_rows(scorer: FolderScorer, rows: Tensor, batch_size: int) -> list[Record]:
    """One record for each row, on every process: text columns, then numbers."""
    texts, keys = read_texts(scorer.cells), scorer.cells.keys
    parts = map_batches(scorer, rows.split(batch_size), "score")
    values = {name: torch.cat([part[name] for part in parts]).tolist() for name in parts[0]}
    numbers = [dict(zip(values, of_row, strict=True)) for of_row in zip(*values.values(), strict=True)]
    return [{**texts[keys[row]], **found} for row, found in zip(rows.tolist(), numbers, strict=True)]


def read_texts(cells: ImagingCells) -> dict[str, dict[str, str]]:
    """Text columns of every image, by sample key; the MoA is empty if the layout has none."""
    layout, skip = cells.layout, RowErrors(skip=True)  # `cells` has dealt with invalid rows
    texts = {}
    for row in read_table(find_file(cells.path, layout.index), layout, skip):
        moa = row[layout.label] if layout.label else ""
        values = (row["SAMPLE_KEY"], row[layout.compound], moa, row[layout.state])
        texts[row["SAMPLE_KEY"]] = dict(zip(TEXT_COLUMNS, values, strict=True))
    return texts


def write_records(records: Sequence[Record], file: Path) -> None:
    """Write a CSV file with six significant digits; undefined numbers are empty."""
    content = StringIO()
    writer = csv.DictWriter(content, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: format_value(value) for key, value in record.items()} for record in records)
    write_whole(file, content.getvalue().encode())


def format_value(value: str | float) -> str:
    """Text of a cell of the CSV file."""
    if isinstance(value, str):
        return spreadsheet_text(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def write_contact_sheet(scorer: FolderScorer, rows: Tensor, file: Path) -> None:
    """Write a picture of the images with outlines of nuclei (white) and cells (amber), with their keys on the left."""
    cells, images = scorer.cells, scorer.cells.images(rows)
    pictures = outlines(images, scorer.segmenter(images, cells.channels), cells.channels)
    parts = [slice(i, i + SHEET_ROW) for i in range(0, len(rows), SHEET_ROW)]
    keys = ["\n".join(cells.keys[row] for row in rows[part].tolist()) for part in parts]
    save_png(grid([pictures[part] for part in parts], keys), file)


def summary_table(records: Sequence[Record], title: str) -> Table:
    """Mean of each number over the images of a MoA where it is defined."""
    names = [name for name in records[0] if name not in TEXT_COLUMNS]
    table = Table(Column("MoA", no_wrap=True), "images", *(name.replace("_", " ") for name in names), title=title)
    for moa in sorted({str(record["moa"]) for record in records}):
        own = [record for record in records if record["moa"] == moa]
        table.add_row(moa, str(len(own)), *(_defined_mean(own, name) for name in names))
    return table


def _defined_mean(records: Sequence[Mapping[str, str | float]], name: str) -> str:
    values = np.array([float(record[name]) for record in records])
    defined = values[~np.isnan(values)]
    return f"{defined.mean():.4g}" if len(defined) else ""


def draw_rows(config: ScoreConfig, cells: ImagingCells) -> Tensor:
    """Rows in random order, at most `limit`."""
    return torch.randperm(len(cells), generator=torch.Generator().manual_seed(config.seed))[: config.limit]


def score_folder(config: ScoreConfig) -> None:
    """Score the images, write measures.csv and contact_sheet.png, print a summary."""
    processes = start_processes(timeout=config.distributed.timeout)
    cells = build_folder(config.folder, config.data, None, unseen=None)
    scorer = FolderScorer(config, cells)
    drawn = draw_rows(config, cells)
    records = score_rows(scorer, drawn.sort().values, config.batch_size)
    if not processes.is_main_process:
        return
    write_records(records, config.output_dir / "measures.csv")
    write_contact_sheet(scorer, drawn[:SHEET].sort().values, config.output_dir / "contact_sheet.png")
    title = f"{config.folder}: {len(records)} images, {config.reward.segmenter} segmenter"
    with_nucleus = [not math.isnan(float(record["nucleus_area_max"])) for record in records]
    show(
        summary_table(records, title),
        f"{np.mean(with_nucleus):.2%} of the images have a nucleus. "
        f"Wrote measures.csv, contact_sheet.png to {config.output_dir}",
    )


def estimate_scoring(config: ScoreConfig) -> Estimate:
    """Scale the time of scoring one batch of images to all of them."""
    cells = build_folder(config.folder, config.data, None, unseen=None)
    scorer = FolderScorer(config, cells)
    rows = draw_rows(config, cells)
    batch = rows[: config.batch_size]
    seconds = seconds_of(lambda: scorer(batch)) * len(rows) / len(batch)
    return Estimate(nfe=0, seconds=seconds, memory=peak_memory())

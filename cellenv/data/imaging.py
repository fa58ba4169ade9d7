"""Cell images on disk in the layout that the public CellFlux and IMPA releases share.

    FOLDER/*_df_all.csv     one row an image: SAMPLE_KEY, BATCH, PLATE, CPD_NAME, ANNOT (MoA), STATE, SPLIT, ...
    FOLDER/emb_*.csv        one row a compound: name, then its D numbers
    FOLDER/Week6/31661/6_246_80.0.npy     uint8 (H, W, C), for SAMPLE_KEY Week6_31661_6_246_80.0

N images, P compounds, M mechanisms of action (MoA), D condition size, n drawn, C, H, W image.
"""

import csv
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cellenv.data.cells import CellData

BBBC021_UNSEEN = (
    *("AZ841", "cyclohexamide", "cytochalasin D", "docetaxel"),
    *("epothilone B", "lactacystin", "latrunculin B", "simvastatin"),
)  # the compounds that CellFlux holds out
STATES = {"1": True, "trt": True, "0": False, "control": False}  # treated?
COLUMNS = ("SAMPLE_KEY", "CPD_NAME", "ANNOT", "STATE", "SPLIT")

Row = dict[str, str]


class ImagingCells(CellData):
    """A split of a folder of images; pixels are read when asked for, the tables at once.

    split: "train", "test" or another value of SPLIT; None takes all rows.
    unseen: False leaves treated images of `unseen_compounds` out, True takes only those, None all. Controls stay.
    pairing: the column that says which controls belong to a treated image, "BATCH" or "PLATE".
    Ids of compounds, MoAs and batches depend on the whole table, not on the split: names in sorted order.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = "train",
        *,
        unseen: bool | None = False,
        unseen_compounds: Collection[str] = BBBC021_UNSEEN,
        pairing: str = "BATCH",
        channels: tuple[str, ...] = ("actin", "tubulin", "DNA"),
    ):
        self.path, self.channels = Path(path), channels
        table = read_table(only_file(self.path, "*_df_all.csv"), pairing)
        moa_of = moa_of_compounds(table)
        self.compounds, self.moas = tuple(sorted(moa_of)), tuple(sorted(set(moa_of.values())))
        self.compound_moa = torch.tensor([self.moas.index(moa_of[name]) for name in self.compounds])
        self.conditions = read_embedding(only_file(self.path, "emb_*.csv"), self.compounds)

        rows = [row for row in table if split in (None, row["SPLIT"]) and is_wanted(row, unseen, unseen_compounds)]
        if not rows:
            raise ValueError(
                f"no image of split {split!r} in {self.path}; it has {sorted({row['SPLIT'] for row in table})}"
            )
        compound_id = {name: i for i, name in enumerate(self.compounds)}
        batch_id = {name: i for i, name in enumerate(sorted({row[pairing] for row in table}))}
        self.keys = tuple(row["SAMPLE_KEY"] for row in rows)
        self.perturbation = torch.tensor([compound_id[row["CPD_NAME"]] if is_treated(row) else -1 for row in rows])
        self.batch = torch.tensor([batch_id[row[pairing]] for row in rows])
        height, width, _ = self.pixels(self.keys[0]).shape
        self.size = (len(channels), height, width)

    def images(self, rows: Tensor) -> Tensor:
        """2 X / 255 - 1 of the stored bytes X, (n, C, H, W) float32."""
        images = torch.empty(len(rows), *self.size)
        for i, row in enumerate(rows.tolist()):
            pixels = self.pixels(self.keys[row])
            if (pixels.shape[2], *pixels.shape[:2]) != self.size:
                raise ValueError(f"image {self.keys[row]} is {pixels.shape}, others (H, W, C) of {self.size}")
            images[i] = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # (C, H, W)
        return images.mul_(2 / 255).sub_(1)

    def pixels(self, key: str) -> np.ndarray:
        """The stored uint8 (H, W, C) of one sample key."""
        week, plate, name = key.split("_", 2)
        file = self.path / week / plate / f"{name}.npy"
        try:
            pixels = np.load(file, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"image {key} is listed in the table, but {file} is missing") from error
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"image {key}: {file} is damaged, need a .npy array: {error}") from error
        if pixels.ndim != 3 or pixels.shape[2] != len(self.channels) or pixels.dtype != np.uint8:
            came = f"{pixels.dtype} {pixels.shape}"
            raise ValueError(f"image {key}: need uint8 (H, W, {len(self.channels)}) in {file}, got {came}")
        return pixels


def is_treated(row: Row) -> bool:
    """STATE as a truth value."""
    return STATES[row["STATE"]]


def is_wanted(row: Row, unseen: bool | None, unseen_compounds: Collection[str]) -> bool:
    """Controls always; treated images by whether their compound is held out."""
    return unseen is None or not is_treated(row) or (row["CPD_NAME"] in unseen_compounds) == unseen


def only_file(path: Path, pattern: str) -> Path:
    """The one file of the folder that matches."""
    found = sorted(path.glob(pattern))
    if len(found) != 1:
        came = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"need exactly one {pattern} in {path}; found {came}")
    return found[0]


def read_table(file: Path, pairing: str) -> list[Row]:
    """The rows of the image table, checked one by one."""
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {*COLUMNS, pairing} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{file} lacks the columns {sorted(missing)}; it has {reader.fieldnames}")
        rows = list(reader)
    keys = set()
    for number, row in enumerate(rows, start=2):  # line 1 holds the names
        where, key = f"{file}, line {number}", row["SAMPLE_KEY"]
        if any(row[column] is None for column in (*COLUMNS, pairing)):
            raise ValueError(f"{where}: the row is shorter than the header")
        if key.count("_") < 2 or "/" in key or "\\" in key:
            raise ValueError(f"{where}: need SAMPLE_KEY as WEEK_PLATE_NAME, got {key!r}")
        if row["STATE"] not in STATES:
            raise ValueError(f"{where} ({key}): need STATE as one of {', '.join(STATES)}; got {row['STATE']!r}")
        if key in keys:
            raise ValueError(f"{where}: SAMPLE_KEY {key} appears twice")
        keys.add(key)
    return rows


def moa_of_compounds(table: list[Row]) -> dict[str, str]:
    """The MoA of every compound that was applied."""
    moa_of: dict[str, str] = {}
    for row in filter(is_treated, table):
        name, moa = row["CPD_NAME"], row["ANNOT"]
        if moa_of.setdefault(name, moa) != moa:
            raise ValueError(f"{row['SAMPLE_KEY']}: compound {name!r} has MoA {moa!r}, elsewhere {moa_of[name]!r}")
    return moa_of


def read_embedding(file: Path, compounds: tuple[str, ...]) -> Tensor:
    """The condition of each compound, (P, D) float32; other rows of the file are ignored."""
    with file.open(newline="") as stream:
        vectors = {name: vector for name, *vector in csv.reader(stream)}
    if missing := [name for name in compounds if name not in vectors]:
        raise ValueError(f"{file} has no row for {', '.join(map(repr, missing))}; every treated compound needs one")
    if len(sizes := {len(vectors[name]) for name in compounds}) > 1:
        raise ValueError(f"the rows of {file} differ in length: {sorted(sizes)}")
    try:
        conditions = torch.tensor([[float(value) for value in vectors[name]] for name in compounds])
    except ValueError as error:
        raise ValueError(f"{file}: need numbers after the name: {error}") from error
    if not conditions.isfinite().all():
        raise ValueError(
            f"{file}: the row of {compounds[(~conditions.isfinite()).any(1).int().argmax()]!r} holds nan or inf"
        )
    return conditions

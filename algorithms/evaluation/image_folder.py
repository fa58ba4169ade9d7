"""Folder of generated images, from any generator: written by `cellfluxrl generate`, read by `evaluate --images`.

    FOLDER/index.csv         one row for each image: sample_key, compound, source_key (the control it started from)
    FOLDER/SAMPLE_KEY.npy    uint8 (H, W, C), channels in the order of the data; or SAMPLE_KEY.png for three channels

N images, n contexts, G images of each; C channels, H, W pixels.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from algorithms.files import write_whole
from cellenv.csv_io import read_rows
from cellenv.data.cells import CellData
from cellenv.data.pixels import read_npy, read_png
from cellenv.images import from_uint8, to_uint8

INDEX, COLUMNS = "index.csv", ("sample_key", "compound", "source_key")
LONGEST_KEY = 255 - len(".npy")  # bytes; the name of a file has at most 255


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Generated images and the contexts that they were generated for."""

    images: Tensor  # (N, C, H, W) float32 in [-1, 1]
    perturbation: Tensor  # (N,) compound ids
    control: Tensor  # (N,) rows of the control images

    @classmethod
    def read(cls, path: str | Path, data: CellData) -> Self:
        """Read all images of the table; compounds and controls are those of these held-out data.

        Raises:
            FileNotFoundError: the table or an image is missing.
            ValueError: a row or an image is invalid, or there is no row.
        """
        path = Path(path)
        rows = {key: row for row, key in enumerate(data.keys)}
        applied = {data.compounds[p] for p in data.perturbation[data.treated].unique().tolist()}
        images, perturbation, control = [], [], []
        for where, row in read_index(path / INDEX):
            if row["compound"] not in applied:
                raise ValueError(
                    f"{where}: no held-out image shows {row['compound']!r}; need one of {', '.join(sorted(applied))}"
                )
            source = rows.get(row["source_key"])
            if source is None or data.perturbation[source] >= 0:
                raise ValueError(
                    f"{where}: need the key of a held-out control as source_key; got {row['source_key']!r}"
                )
            images.append(read_pixels(path / row["sample_key"], data.size, where))
            perturbation.append(data.compound_id(row["compound"]))
            control.append(source)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # (N, C, H, W)
        return cls(images=from_uint8(pixels), perturbation=torch.tensor(perturbation), control=torch.tensor(control))

    @property
    def context_ids(self) -> Tensor:
        """A number that identifies compound and control of each image, (N,)."""
        return context_ids(self.perturbation, self.control)

    def match_contexts(self, contexts: TensorDict) -> Tensor | None:
        """Images in the order of these contexts from `held_out`, (n, G, C, H, W).

        None unless the images are for exactly these contexts. Equal contexts get images in the order of the table.
        """
        wanted, own = context_ids(contexts["perturbation"], contexts["control"]), self.context_ids
        if len(own) % len(wanted):
            return None
        wanted = wanted.repeat_interleave(len(own) // len(wanted))
        wanted_order, own_order = wanted.argsort(stable=True), own.argsort(stable=True)  # the k-th match the k-th
        if not own[own_order].equal(wanted[wanted_order]):
            return None
        return self.images[own_order[wanted_order.argsort()]].unflatten(0, (len(contexts), -1))

    def group_by_context(self, data: CellData) -> tuple[Tensor, TensorDict]:
        """(images (n, G, C, H, W), contexts [n]) as the table has them.

        G is the greatest common divisor of the numbers of images of all pairs of compound and control.
        """
        _, which, counts = self.context_ids.unique(return_inverse=True, return_counts=True)
        grouped = which.argsort(stable=True).reshape(-1, math.gcd(*counts.tolist()))  # (n, G)
        first = grouped[:, 0]
        contexts = data.contexts_of(self.perturbation[first], self.control[first], torch.Generator())
        return self.images[grouped], contexts


def context_ids(perturbation: Tensor, control: Tensor) -> Tensor:
    """A number that identifies each pair of compound and control, (n,)."""
    return perturbation * 2**32 + control


def draw_references(perturbation: Tensor, data: CellData, rng: torch.Generator) -> Tensor:
    """Rows of random treated images of these compounds, (n,); an image repeats only after all of its compound."""
    rows = torch.empty_like(perturbation)
    for compound in perturbation.unique():
        places = perturbation == compound
        own = (data.perturbation == compound).nonzero().squeeze(1)
        order = torch.randperm(len(own), generator=rng)
        rows[places] = own[order[torch.arange(int(places.sum())) % len(own)]]
    return rows


def read_index(file: Path) -> list[tuple[str, dict[str, str]]]:
    """Read the table: (file and line, row) for every row, checked to have a value for each of COLUMNS.

    Raises:
        FileNotFoundError: there is no table.
        ValueError: a column, a row or a value is missing, or a sample key is invalid or not unique.
    """
    if not file.is_file():
        raise FileNotFoundError(f"need a table {file} with the columns {', '.join(COLUMNS)}")
    rows = list(read_rows(file, dict.fromkeys(COLUMNS, "")))
    if not rows:
        raise ValueError(f"{file} lists no image; need one row an image")
    found: list[tuple[str, dict[str, str]]] = []
    seen = set()
    for line, row in rows:
        key = row.get("sample_key", "")
        where = f"{line} ({key:.100})"
        if not all(row.get(name) for name in COLUMNS):
            raise ValueError(f"{where}: need a value for each of {', '.join(COLUMNS)}")
        if key != Path(key).name or "\\" in key or not key.isprintable():
            raise ValueError(f"{where}: a sample_key names a file in this folder, without slashes")
        if (length := len(key.encode())) > LONGEST_KEY:
            raise ValueError(
                f"{where}: a sample_key names a file and has at most {LONGEST_KEY} bytes, this has {length}"
            )
        if key in seen:
            raise ValueError(f"{where}: this sample_key stands twice")
        seen.add(key)
        found.append((where, row))
    return found


def read_pixels(stem: Path, size: tuple[int, int, int], where: str) -> NDArray[np.uint8]:
    """Pixels (H, W, C) of stem.npy, or else of stem.png. where: file and line, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or has another type or size.
    """
    channels, height, width = size
    npy, png = stem.with_name(f"{stem.name}.npy"), stem.with_name(f"{stem.name}.png")
    try:
        pixels = read_npy(npy, channels) if npy.is_file() else read_png(png, width, height)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: neither {npy.name} nor {png.name} is there") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if pixels.shape != (height, width, channels):
        raise ValueError(f"{where}: need uint8 ({height}, {width}, {channels}), got {pixels.shape}")
    return pixels


def check_new(path: str | Path) -> Path:
    """Return the path of a folder to write.

    Raises:
        FileExistsError: it holds a table of images already.
    """
    if (Path(path) / INDEX).exists():
        raise FileExistsError(f"{path} holds images already; give another folder, or remove it")
    return Path(path)


def write_images(path: str | Path, images: Tensor, index: Tensor, group_size: int) -> None:
    """Write images (B, C, H, W) in [-1, 1], rounded to bytes; index (B,): of sample g of context i, i G + g."""
    for pixels, number in zip(to_uint8(images).movedim(1, -1).numpy(), index.tolist(), strict=True):  # (H, W, C)
        content = io.BytesIO()
        np.save(content, pixels)
        write_whole(Path(path) / f"{image_key(number, group_size)}.npy", content.getvalue())


def write_index(path: str | Path, contexts: TensorDict, group_size: int, data: CellData) -> None:
    """Write the table of G images of each of these contexts from `held_out`, which makes the folder complete.

    Raises:
        FileNotFoundError: an image is missing: it was written by a process that does not share the folder.
    """
    path = Path(path)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    pairs = zip(contexts["perturbation"].tolist(), contexts["control"].tolist(), strict=True)
    for i, (compound, control) in enumerate(pairs):
        for number in range(i * group_size, (i + 1) * group_size):
            key = image_key(number, group_size)
            if not (path / f"{key}.npy").is_file():
                raise FileNotFoundError(f"{path} lacks {key}.npy: need a folder that all processes share")
            writer.writerow((key, data.compounds[compound], data.keys[control]))
    write_whole(path / INDEX, table.getvalue().encode())


def image_key(number: int, group_size: int) -> str:
    """Key of sample g of context i, which has the number i G + g."""
    return f"{number // group_size:05d}-{number % group_size:02d}"

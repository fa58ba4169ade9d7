"""Generated images in a folder, whoever made them: what `generate.py` writes and `evaluate.py --images` reads.

    FOLDER/index.csv         one row an image: sample_key, compound, source_key (the control that it was made from)
    FOLDER/SAMPLE_KEY.npy    uint8 (H, W, C), channels in the order of the data; three channels may be SAMPLE_KEY.png

N images; n contexts, G images of each; C, H, W image.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tensordict import TensorDict
from torch import Tensor

from algorithms.files import write_whole
from cellenv.data.cells import CellData

INDEX, COLUMNS = "index.csv", ("sample_key", "compound", "source_key")


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """images (N, C, H, W) float32 in [-1, 1]; of each, (N,), the id of its compound and the row of its control."""

    images: Tensor
    perturbation: Tensor
    control: Tensor

    @classmethod
    def read(cls, path: str | Path, data: CellData) -> Self:
        """All images of the table, for compounds and controls of these held-out data."""
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
        return cls(images=pixels / 127.5 - 1, perturbation=torch.tensor(perturbation), control=torch.tensor(control))

    @property
    def names(self) -> Tensor:
        """One number for each pair of compound and control, (N,)."""
        return name_contexts(self.perturbation, self.control)

    def on(self, scene: TensorDict) -> Tensor | None:
        """The images in the order of contexts from `held_out`, (n, G, C, H, W); None unless they are for just these.

        Contexts that are alike get their images in the order of the table.
        """
        wanted, own = name_contexts(scene["perturbation"], scene["control"]), self.names
        if len(own) % len(wanted):
            return None
        wanted = wanted.repeat_interleave(len(own) // len(wanted))
        there, here = wanted.argsort(stable=True), own.argsort(stable=True)  # the k-th of a pair is its k-th
        if not own[here].equal(wanted[there]):
            return None
        return self.images[here[there.argsort()]].unflatten(0, (len(scene), -1))

    def alone(self, data: CellData) -> tuple[Tensor, TensorDict]:
        """(images (n, G, C, H, W), contexts [n]), as the folder has them; G divides the images of every pair."""
        _, which, counts = self.names.unique(return_inverse=True, return_counts=True)
        grouped = which.argsort(stable=True).reshape(-1, math.gcd(*counts.tolist()))  # (n, G)
        first = grouped[:, 0]
        scene = data.contexts_of(self.perturbation[first], self.control[first], torch.Generator())
        return self.images[grouped], scene


def name_contexts(perturbation: Tensor, control: Tensor) -> Tensor:
    """One number for each pair, (n,)."""
    return perturbation * 2**32 + control


def companions(perturbation: Tensor, data: CellData, rng: torch.Generator) -> Tensor:
    """Rows of random treated images of these compounds, (n,); none twice before all of its compound were taken."""
    rows = torch.empty_like(perturbation)
    for compound in perturbation.unique():
        places, shown = perturbation == compound, (data.perturbation == compound).nonzero().squeeze(1)
        order = torch.randperm(len(shown), generator=rng)
        rows[places] = shown[order[torch.arange(int(places.sum())) % len(shown)]]
    return rows


def read_index(file: Path) -> list[tuple[str, dict[str, str]]]:
    """(where it stands, row) of every row of the table, each with what COLUMNS asks for."""
    if not file.is_file():
        raise FileNotFoundError(f"need a table {file} with the columns {', '.join(COLUMNS)}")
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{file} lacks the columns {missing}; it has {reader.fieldnames}")
        rows = list(reader)
    if not rows:
        raise ValueError(f"{file} lists no image; need one row an image")
    found, seen = [], set()
    for number, row in enumerate(rows, start=2):  # line 1 holds the names
        key = row["sample_key"]
        where = f"{file}, line {number} ({key})"
        if not all(row[name] for name in COLUMNS):
            raise ValueError(f"{where}: need a value for each of {', '.join(COLUMNS)}")
        if key != Path(key).name or "\\" in key:
            raise ValueError(f"{where}: a sample_key names a file in this folder, without slashes")
        if key in seen:
            raise ValueError(f"{where}: this sample_key stands twice")
        seen.add(key)
        found.append((where, row))
    return found


def read_pixels(stem: Path, size: tuple[int, int, int], where: str) -> np.ndarray:
    """uint8 (H, W, C) of stem.npy, or of stem.png where there is none."""
    channels, height, width = size
    npy, png = stem.with_name(f"{stem.name}.npy"), stem.with_name(f"{stem.name}.png")
    try:
        pixels = np.load(npy, allow_pickle=False) if npy.is_file() else np.asarray(Image.open(png))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: neither {npy.name} nor {png.name} is there") from error
    except (ValueError, EOFError, OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{where}: the image is damaged: {error}") from error
    if pixels.dtype != np.uint8 or pixels.shape != (height, width, channels):
        came = f"{pixels.dtype} {pixels.shape}"
        raise ValueError(f"{where}: need uint8 ({height}, {width}, {channels}), got {came}")
    return pixels


def check_new(path: str | Path) -> Path:
    """A folder that holds no table of images yet."""
    if (Path(path) / INDEX).exists():
        raise FileExistsError(f"{path} holds images already; give another folder, or remove it")
    return Path(path)


def write_folder(path: str | Path, images: Tensor, scene: TensorDict, data: CellData) -> None:
    """Write images (n, G, C, H, W) in [-1, 1] of contexts from `held_out`, at the nearest level; the table last."""
    path = check_new(path)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte().movedim(2, -1).numpy()  # (n, G, H, W, C)
    for i, (compound, control) in enumerate(zip(scene["perturbation"].tolist(), scene["control"].tolist())):
        for g, image in enumerate(pixels[i]):
            key, content = f"{i:05d}-{g:02d}", io.BytesIO()
            np.save(content, image)
            write_whole(path / f"{key}.npy", content.getvalue())
            writer.writerow((key, data.compounds[compound], data.keys[control]))
    write_whole(path / INDEX, table.getvalue().encode())

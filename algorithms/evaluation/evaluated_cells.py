"""What an evaluation found image by image: all values, and pictures of some contexts. n contexts, G samples of each.

Kept beside evaluation.json as evaluation_cells.json, from which pages are drawn again.
"""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from algorithms.evaluation.statistics import nan_mean
from algorithms.files import write_whole
from cellenv.json_io import read_json

Group = Literal["largest gain", "random", "largest loss"]
WEBP = "data:image/webp;base64,"
QUALITY = 95  # of WebP: 3 kB for a picture of 96 x 96, a fifth of PNG
MOST_PICTURES = 360  # on a page, about 2 MB
MOST_OF_A_CLASS = 3  # contexts of largest gain, and random ones
MOST_LOSSES = 4  # contexts of largest loss, of all classes
Values = dict[str, list[list[float | None]]]  # by name, (n, G); None where undefined
SVG_PATH = re.compile(r"[Ml0-9 -]*")


@dataclass(frozen=True, kw_only=True)
class CellPicture:
    """A picture, and SVG paths on it in half pixels (`algorithms.evaluation.pages.outlines`).

    Raises:
        ValueError: the picture is no data address of a WebP file, or a path no path: a page fetches and runs nothing.
    """

    image: str
    nuclei: str = ""
    cells: str = ""
    outside: str = ""  # area of nuclei outside all cells

    def __post_init__(self) -> None:
        if not re.fullmatch(re.escape(WEBP) + r"[A-Za-z0-9+/=]+", self.image):
            raise ValueError(f"need an image as {WEBP}...; got {self.image[:40]!r}")
        if wrong := [path for path in (self.nuclei, self.cells, self.outside) if not SVG_PATH.fullmatch(path)]:
            raise ValueError(f"need SVG paths of M and l; got {wrong[0][:40]!r}")


@dataclass(frozen=True, kw_only=True)
class ShownContext:
    """A context with pictures by column (control, base, rl, real, ...), of the first sample of each row."""

    context: int
    groups: tuple[Group, ...]
    pictures: dict[str, CellPicture]


@dataclass(frozen=True, kw_only=True)
class EvaluatedCells:
    """All values by row, and the contexts that are shown.

    Raises:
        ValueError: not one class, compound, seed and value for each context.
    """

    size: tuple[int, int]  # H, W of the pictures
    classes: tuple[str, ...]  # MoA of each context, or its compound if the data set has no MoAs
    compounds: tuple[str, ...]
    seeds: tuple[int, ...]  # of the noise of each context: contexts of one seed are one context, in any run
    values: dict[str, Values]  # rewards, judges as `judge_NAME`, and "total"
    measures: dict[str, Values]  # what is compared with real cells, by the reward's name
    shown: tuple[ShownContext, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.classes)
        lengths = {len(self.compounds), len(self.seeds)}
        for rows in (self.values, self.measures):
            lengths |= {len(value) for row in rows.values() for value in row.values()}
        if lengths != {n} or any(not 0 <= shown.context < n for shown in self.shown):
            raise ValueError(f"need a class, a compound, a seed and values for each of {n} contexts, shown ones too")

    def of(self, row: str, name: str) -> NDArray[np.float64]:
        """Values of a row, (n, G), nan where undefined; a reward, a judge, or a measure as `measure/NAME`."""
        source = self.measures if name.startswith("measure/") else self.values
        return np.array(source[row][name.removeprefix("measure/")], np.float64)

    def save(self, path: str | Path) -> None:
        """Write JSON: a whole file or none."""
        write_whole(path, json.dumps(asdict(self), allow_nan=False, separators=(",", ":")).encode())

    @classmethod
    def load(cls, path: str | Path) -> "EvaluatedCells":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged; names it.
        """
        return read_json(Path(path), cls)


def rounded(values: NDArray[np.floating[Any]]) -> list[list[float | None]]:
    """Values (n, G) with five significant digits, None for nan."""
    return [[float(f"{x:.5g}") if math.isfinite(x) else None for x in row] for row in values.tolist()]


def webp(picture: NDArray[np.uint8]) -> str:
    """Data address of a picture (H, W, 3) uint8."""
    content = BytesIO()
    Image.fromarray(picture).save(content, format="WEBP", quality=QUALITY, method=6)
    return WEBP + base64.b64encode(content.getvalue()).decode()


def gain(cells: Mapping[str, NDArray[np.floating[Any]]], row: str | None) -> NDArray[np.float64] | None:
    """Total of the first sample of each context above the base's, (n,); None without a row."""
    return None if row is None else np.asarray(cells[row][:, 0] - cells["base"][:, 0], np.float64)


def choose_contexts(
    gain: NDArray[np.float64] | None, classes: Sequence[str], names: Sequence[str], *, columns: int, seed: int
) -> dict[int, list[Group]]:
    """Contexts to show, and why: of each class random ones and, of the others, those of largest gain; largest losses.

    A gain is above 0, a loss below. The random ones do not depend on the gain: runs on the same contexts show the same.
    gain: (n,), or None.
    names: the classes in order. columns: pictures of a context.
    """
    rng, member = np.random.default_rng(seed), np.array(classes)
    present = [name for name in names if name in classes]
    most = min(MOST_OF_A_CLASS, max(1, MOST_PICTURES // (2 * columns * len(present))))
    chosen: dict[int, list[Group]] = {}
    for name in present:
        contexts = rng.permutation(np.flatnonzero(member == name))
        n_random = min(most, -(-len(contexts) // 2))
        random, others = contexts[:n_random], contexts[n_random:]
        if gain is not None:
            others = others[np.nan_to_num(gain[others], nan=-1) > 0]
            best = others[np.argsort(-gain[others], kind="stable")][:most]
            chosen |= {int(i): ["largest gain"] for i in best}
        chosen |= {int(i): ["random"] for i in random}
    if gain is not None:
        lost = np.argsort(np.nan_to_num(gain, nan=np.inf), kind="stable")[:MOST_LOSSES]
        for i in lost[gain[lost] < 0]:
            chosen.setdefault(int(i), []).append("largest loss")
    return chosen


def mean_gain(cells: EvaluatedCells, row: str, baseline: str, name: str = "total") -> NDArray[np.float64]:
    """Mean over the samples of each context of a value above the baseline's, (n,)."""
    return np.asarray(nan_mean(cells.of(row, name), axis=1) - nan_mean(cells.of(baseline, name), axis=1))

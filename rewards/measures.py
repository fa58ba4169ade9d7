"""Areas, perimeters, overlaps and counts of every object of a whole batch at once.

B batch, H, W pixels, N objects of the batch, all images together. Labels are (B, H, W) integer, 0 background; masks
hold two of them, `nuclei` and `cells`. A measure is one number per image, (B,) float32, and nan where it is undefined:
what that is worth is for the reward to say.

How to tell the two kinds of undefined roundness apart: no nucleus at all has `nucleus_count` 0; nuclei that all touch
the border have `nucleus_count` > 0. A speck is an object: how small is too small is the segmenter's decision.
"""

from math import pi, sqrt
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numba import njit
from torch import Tensor


class LabelledMasks(Protocol):
    """Whatever holds labels of nuclei and cells, (B, H, W) each."""

    nuclei: Tensor
    cells: Tensor


class Objects(NamedTuple):
    """A row for each object that has a pixel."""

    image: np.ndarray  # (N,) int64, its image, 0..B-1
    label: np.ndarray  # (N,) int64, unique in the batch: label - 1 + the labels used before this image
    area: np.ndarray  # (N,) px^2
    perimeter: np.ndarray  # (N,) px
    on_border: np.ndarray  # (N,) bool, it has a pixel in the first or last row or column


@njit(cache=True, nogil=True)
def _tally(labels, offset, area, straight, diagonal, on_border):
    """Pixels and boundary crossings of each object: a pixel of it followed by one that is not, on a line of pixels."""
    batch, height, width = labels.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                k = labels[b, y, x]
                if k == 0:
                    continue
                row = offset[b] + k - 1
                area[row] += 1
                if y == 0 or x == 0 or y == height - 1 or x == width - 1:
                    on_border[row] = True
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        inside = 0 <= y + dy < height and 0 <= x + dx < width
                        if inside and labels[b, y + dy, x + dx] == k:
                            continue
                        if dy == 0 or dx == 0:
                            straight[row] += 1
                        else:
                            diagonal[row] += 1


@njit(cache=True, nogil=True)
def _tally_inside(labels, offset, cells, inside):
    """Pixels of each object that lie in any cell."""
    batch, height, width = labels.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                if labels[b, y, x] and cells[b, y, x]:
                    inside[offset[b] + labels[b, y, x] - 1] += 1


def _as_array(labels: Tensor) -> np.ndarray:
    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"need integer labels (B, H, W), got {labels.dtype} {tuple(labels.shape)}")
    array = np.ascontiguousarray(labels.cpu().numpy().astype(np.int32, copy=False))
    if array.size and array.min() < 0:
        raise ValueError(f"labels are 0 (background) and above, got {array.min()}")
    return array


def _offsets(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels used by the images before each one, (B,), and by all."""
    used = labels.max((1, 2), initial=0).astype(np.int64)
    return np.cumsum(used) - used, int(used.sum())


def objects(labels: Tensor) -> Objects:
    """Area, Crofton perimeter and border contact of every object.

    P = pi/8 (N_h + N_v + (N_d1 + N_d2) / sqrt 2), N the crossings of the boundary with all pixel lines of a direction:
    the Cauchy-Crofton integral over four directions. Unbiased for disks of radius 4 to 20.
    """
    array = _as_array(labels)
    offset, total = _offsets(array)
    area, straight, diagonal = np.zeros((3, total), np.int64)
    on_border = np.zeros(total, np.bool_)
    _tally(array, offset, area, straight, diagonal, on_border)
    label = np.flatnonzero(area)
    return Objects(
        image=np.searchsorted(offset, label, side="right") - 1,
        label=label,
        area=area[label],
        perimeter=pi / 8 * (straight[label] + diagonal[label] / sqrt(2)),
        on_border=on_border[label],
    )


def _mean(value: np.ndarray, image: np.ndarray, batch: int) -> np.ndarray:
    """Mean over the objects of each image, nan without any."""
    count = np.bincount(image, minlength=batch)
    total = np.bincount(image, value, minlength=batch)
    return np.divide(total, count, out=np.full(batch, np.nan), where=count > 0)


def _largest(value: np.ndarray, image: np.ndarray, batch: int) -> np.ndarray:
    out = np.full(batch, np.nan)
    np.fmax.at(out, image, value)
    return out


def _roundness(table: Objects, batch: int) -> np.ndarray:
    whole = ~table.on_border
    return _mean(4 * pi * table.area[whole] / table.perimeter[whole] ** 2, table.image[whole], batch)


def _containment(table: Objects, nuclei: Tensor, cells: Tensor) -> np.ndarray:
    if nuclei.shape != cells.shape:
        raise ValueError(f"need nuclei and cells of one shape, got {tuple(nuclei.shape)} and {tuple(cells.shape)}")
    array = _as_array(nuclei)
    offset, total = _offsets(array)
    inside = np.zeros(total, np.int64)
    _tally_inside(array, offset, _as_array(cells), inside)
    return _mean(inside[table.label] / table.area, table.image, len(array))


def _per_image(value: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=like.device)


def count(labels: Tensor) -> Tensor:
    """Number of objects, 0 and above. (B, H, W) -> (B,)."""
    return _per_image(np.bincount(objects(labels).image, minlength=len(labels)), labels)


def area_max(labels: Tensor) -> Tensor:
    """Area of the largest object, px^2; nan without an object. (B, H, W) -> (B,)."""
    table = objects(labels)
    return _per_image(_largest(table.area, table.image, len(labels)), labels)


def roundness(nuclei: Tensor) -> Tensor:
    """Mean of 4 pi A / P^2 over the nuclei off the border; 1 for a disk; nan without one. (B, H, W) -> (B,)."""
    return _per_image(_roundness(objects(nuclei), len(nuclei)), nuclei)


def containment(nuclei: Tensor, cells: Tensor) -> Tensor:
    """Mean over nuclei of the share of nuclear area inside any cell; nan without one. (B, H, W) x 2 -> (B,), [0, 1]."""
    return _per_image(_containment(objects(nuclei), nuclei, cells), nuclei)


def measure(masks: LabelledMasks) -> dict[str, Tensor]:
    """All measures of each image, (B,) float32 each, equal to the functions above."""
    nuclei, cells = objects(masks.nuclei), objects(masks.cells)
    batch = len(masks.nuclei)
    values = {
        "nucleus_count": np.bincount(nuclei.image, minlength=batch),  # objects
        "cell_count": np.bincount(cells.image, minlength=batch),  # objects
        "nucleus_area_max": _largest(nuclei.area, nuclei.image, batch),  # px^2
        "cell_area_max": _largest(cells.area, cells.image, batch),  # px^2
        "roundness": _roundness(nuclei, batch),  # 1 for a disk
        "containment": _containment(nuclei, masks.nuclei, masks.cells),  # share, [0, 1]
    }
    return {name: _per_image(value, masks.nuclei) for name, value in values.items()}

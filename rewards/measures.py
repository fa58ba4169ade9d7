"""Size, shape, number and overlap of the segmented objects, as one number per image.

B batch, H, W pixels, N objects in the whole batch. Labels are (B, H, W) integers with 0 as background. A
measure is (B,) float32, and nan where it is undefined; the rewards decide what an undefined measure is worth.
Objects of any size are measured: the segmenter removes specks.
"""

from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellenv.jit import compiled
from rewards.segmentation.protocol import Masks

MEASURES = ("nucleus_count", "cell_count", "nucleus_area_max", "cell_area_max", "roundness", "containment")


class Objects(NamedTuple):
    """Properties of the N objects of a batch, one row per object."""

    image: NDArray[np.int64]  # (N,) index of its image, 0..B-1
    id: NDArray[np.int64]  # (N,) label - 1 + the number of labels used by earlier images; unique in the batch
    area: NDArray[np.int64]  # (N,) px^2
    perimeter: NDArray[np.float64]  # (N,) px
    on_border: NDArray[np.bool_]  # (N,) whether it touches the border of the image


@compiled
def _count_pixels(
    labels: NDArray[np.int32],
    offset: NDArray[np.int64],
    area: NDArray[np.int64],
    straight: NDArray[np.int64],
    diagonal: NDArray[np.int64],
    on_border: NDArray[np.bool_],
) -> None:
    """Count the pixels of each object, and its boundary crossings along rows and columns and along diagonals.

    A crossing is a pixel of the object whose neighbour in one of the eight directions is not.
    """
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


@compiled
def _count_overlap(
    labels: NDArray[np.int32], offset: NDArray[np.int64], other: NDArray[np.int32], overlap: NDArray[np.int64]
) -> None:
    """Count the pixels of each object that lie in any object of `other`."""
    batch, height, width = labels.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                if labels[b, y, x] and other[b, y, x]:
                    overlap[offset[b] + labels[b, y, x] - 1] += 1


def _as_array(labels: Tensor) -> NDArray[np.int32]:
    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"need integer labels (B, H, W), got {labels.dtype} {tuple(labels.shape)}")
    array = labels.cpu().numpy()
    if array.size and not 0 <= array.min() <= array.max() < 2**31:
        raise ValueError(f"labels are 0 (background) and above, to 2^31 - 1; got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array.astype(np.int32, copy=False))


def _offsets(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], int]:
    """Number of labels used by the images before each image, (B,), and by all images."""
    used = labels.max((1, 2), initial=0).astype(np.int64)
    return np.cumsum(used) - used, int(used.sum())


def _objects(labels: NDArray[np.int32]) -> Objects:
    offset, total = _offsets(labels)
    area, straight, diagonal = np.zeros((3, total), np.int64)
    on_border = np.zeros(total, np.bool_)
    _count_pixels(labels, offset, area, straight, diagonal, on_border)
    used = np.flatnonzero(area)
    return Objects(
        image=np.searchsorted(offset, used, side="right") - 1,
        id=used,
        area=area[used],
        perimeter=pi / 8 * (straight[used] + diagonal[used] / sqrt(2)),
        on_border=on_border[used],
    )


def objects(labels: Tensor) -> Objects:
    """Area, Crofton perimeter and border contact of every object in labels, (B, H, W) integer.

    P = pi/8 (N_h + N_v + (N_d1 + N_d2) / sqrt 2), with N the boundary crossings of all pixel lines in one
    direction: the Cauchy-Crofton formula with four directions. Unbiased for drawn disks of radius 4 to 20.

    Raises:
        ValueError: the labels are not integers >= 0, or not (B, H, W).
    """
    return _objects(_as_array(labels))


def _mean(value: NDArray[Any], image: NDArray[np.int64], batch: int) -> NDArray[np.float64]:
    """Mean over the objects of each image, (B,); nan for an image without objects."""
    count = np.bincount(image, minlength=batch)
    total = np.bincount(image, value, minlength=batch)
    return np.divide(total, count, out=np.full(batch, np.nan), where=count > 0)


def _largest(value: NDArray[Any], image: NDArray[np.int64], batch: int) -> NDArray[np.float64]:
    """Maximum over the objects of each image, (B,); nan for an image without objects."""
    out = np.full(batch, np.nan)
    np.fmax.at(out, image, value)
    return out


def _roundness(table: Objects, batch: int) -> NDArray[np.float64]:
    whole = ~table.on_border
    return _mean(4 * pi * table.area[whole] / table.perimeter[whole] ** 2, table.image[whole], batch)


def _containment(table: Objects, nuclei: NDArray[np.int32], cells: NDArray[np.int32]) -> NDArray[np.float64]:
    offset, total = _offsets(nuclei)
    inside = np.zeros(total, np.int64)
    _count_overlap(nuclei, offset, cells, inside)
    return _mean(inside[table.id] / table.area, table.image, len(nuclei))


def measure(masks: Masks) -> dict[str, Tensor]:
    """All measures of `MEASURES` for each image, (B,) float32 each, on the device of the masks.

    nucleus_count, cell_count: number of objects, also those that touch the border.
    nucleus_area_max, cell_area_max: area of the largest object, px^2; nan without an object.
    roundness: mean of 4 pi A / P^2 over the nuclei that do not touch the border; nan without such a nucleus.
        Whether there is none at all or all touch the border shows in nucleus_count.
    containment: mean over nuclei of the share of the nucleus inside any cell, 0 to 1; nan without a nucleus.

    Raises:
        ValueError: labels are not integers >= 0, or nuclei and cells differ in shape.
    """
    if masks.nuclei.shape != masks.cells.shape:
        raise ValueError(
            f"need nuclei and cells of one shape, got {tuple(masks.nuclei.shape)} and {tuple(masks.cells.shape)}"
        )
    nucleus_labels, cell_labels = _as_array(masks.nuclei), _as_array(masks.cells)
    nuclei, cells = _objects(nucleus_labels), _objects(cell_labels)
    batch = len(nucleus_labels)
    values: dict[str, NDArray[Any]] = {
        "nucleus_count": np.bincount(nuclei.image, minlength=batch),
        "cell_count": np.bincount(cells.image, minlength=batch),
        "nucleus_area_max": _largest(nuclei.area, nuclei.image, batch),
        "cell_area_max": _largest(cells.area, cells.image, batch),
        "roundness": _roundness(nuclei, batch),
        "containment": _containment(nuclei, nucleus_labels, cell_labels),
    }
    device = masks.nuclei.device
    return {name: torch.as_tensor(value, dtype=torch.float32, device=device) for name, value in values.items()}

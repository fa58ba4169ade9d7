"""Nuclei of a whole field: found in tiles that overlap, so that no nucleus is cut at a seam.

B tiles, H, W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, pi, sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import Tensor

from cellenv.data.prepare.planes import Pixels

FindNuclei = Callable[[Tensor], Tensor]  # DNA (B, 1, H, W) in [-1, 1] -> labels (B, H, W) int, 0 = background
Labels = NDArray[np.int32]

ELONGATION = 1.25  # length of the largest nucleus, in diameters of a disk of its area
LONGEST = 704  # px of a tile
MULTIPLE = 32  # px, of which a tile is a multiple: networks halve it
SLACK = 4  # px beyond the middle of the overlap where a nucleus may still have its centre


class Tile(NamedTuple):
    """Part of a field along one axis: [start, stop), and the inner part [first, last) that no other tile has."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class FoundNuclei:
    """Nuclei of a field: labels (H, W), 0 = background; of labels 1..n the box, centre (n, 2) px, area (n,) px^2."""

    labels: Labels
    boxes: list[tuple[slice, slice]]
    centres: NDArray[np.float64]
    areas: NDArray[np.int64]


def find_nuclei(dna: Pixels, find: FindNuclei, max_area: float) -> FoundNuclei:
    """Nuclei of a field; dna: (H, W) on the scale of the plate, 0 to 1. Those up to max_area px^2 are not cut."""
    height, width = dna.shape
    tiles_y, tiles_x = (split_axis(length, overlap_of(max_area)) for length in (height, width))
    padded = np.pad(dna, ((0, tiles_y[-1].stop - height), (0, tiles_x[-1].stop - width)), mode="reflect")
    image = torch.from_numpy(2 * padded.clip(0, 1) - 1)
    labels, count = np.zeros(padded.shape, np.int32), 0
    for tile_y in tiles_y:
        for tile_x in tiles_x:
            window = slice(tile_y.start, tile_y.stop), slice(tile_x.start, tile_x.stop)
            found = find(image[window][None, None])[0].numpy()
            count = _add_tile(labels[window], found, tile_y, tile_x, count)
    return measure_nuclei(labels[:height, :width])


def overlap_of(max_area: float) -> int:
    """Overlap of tiles in px, at most half a tile, so that a nucleus with its centre at a seam is whole in both."""
    length = ELONGATION * 2 * sqrt(max_area / pi)
    return 2 * ceil(min(length / 2 + SLACK, LONGEST / 4))


def split_axis(length: int, overlap: int) -> list[Tile]:
    """Tiles of equal size along an axis, as few as cover it; the last may end beyond it."""
    count = max(1, ceil((length - overlap) / (LONGEST - overlap)))
    size = MULTIPLE * ceil((length + (count - 1) * overlap) / count / MULTIPLE)
    starts = [k * (size - overlap) for k in range(count)]
    seams = [start + overlap // 2 for start in starts[1:]]
    return [
        Tile(start, start + size, first, last)
        for start, first, last in zip(starts, [0, *seams], [*seams, starts[-1] + size])
    ]


def _add_tile(labels: Labels, found: Labels, tile_y: Tile, tile_x: Tile, count: int) -> int:
    """Write a tile's nuclei into its part of the field; returns the number of nuclei of the field so far.

    A nucleus belongs to the tile that has its centre in the inner part. One at the seam, which two tiles may claim, is
    written by the first of them.
    """
    for label, box in enumerate(find_objects(found), 1):
        if box is None:
            continue
        mask = found[box] == label
        y, x = (axis.mean() for axis in np.nonzero(mask))
        centres = ((tile_y, y + box[0].start), (tile_x, x + box[1].start))
        if any(not tile.first - SLACK <= tile.start + centre < tile.last + SLACK for tile, centre in centres):
            continue
        taken = labels[box] > 0
        if (mask & taken).sum() <= 0.3 * mask.sum():
            count += 1
            labels[box][mask & ~taken] = count
    return count


def measure_nuclei(labels: Labels) -> FoundNuclei:
    """Boxes, centres and areas of labels (H, W), which are numbered anew."""
    numbered = np.zeros_like(labels)
    boxes, centres, areas = [], [], []
    for label, box in enumerate(find_objects(labels), 1):
        if box is not None:
            mask = labels[box] == label
            y, x = np.nonzero(mask)
            boxes.append(box)
            centres.append((y.mean() + box[0].start + 0.5, x.mean() + box[1].start + 0.5))
            areas.append(len(y))
            numbered[box][mask] = len(boxes)
    return FoundNuclei(numbered, boxes, np.array(centres).reshape(-1, 2), np.array(areas, np.int64))

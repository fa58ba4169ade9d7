"""What the pixels of all images of a folder show, read one by one: unreadable, blank, saturated, copied, histograms.

C channels, H, W image.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cellenv.data.packed import ImageFiles

SATURATED = 0.1  # share of the pixels of a channel that are 255, from which it counts as saturated
HISTOGRAM_IMAGES = 2_000  # images in the histograms, spread evenly over the folder
Keys = dict[str, list[str]]


@dataclass(kw_only=True)
class ImageScan:
    """Sample keys of the images that are not as they should be. Memory grows by some 200 bytes an image.

    unreadable: key -> error.
    blank, saturated: channel -> keys. equal: "a = b" -> keys of the images whose channels a and b are the same.
    copies: keys of images with the same pixels, the first one of each set first.
    histograms: (C, 256) pixels of each value, over a sample of the images.
    """

    histograms: NDArray[np.int64]
    unreadable: dict[str, str] = field(default_factory=dict)
    blank: Keys = field(default_factory=lambda: defaultdict(list))
    saturated: Keys = field(default_factory=lambda: defaultdict(list))
    equal: Keys = field(default_factory=lambda: defaultdict(list))
    copies: list[list[str]] = field(default_factory=list)


def scan_images(files: ImageFiles, indices: Iterable[int], channels: Sequence[str], *, every: int = 1) -> ImageScan:
    """Read the images at these indices once; every so manyth goes into the histograms."""
    scan = ImageScan(histograms=np.zeros((len(channels), 256), np.int64))
    same: dict[bytes, list[str]] = defaultdict(list)
    for n, index in enumerate(indices):
        key = files.keys[index]
        try:
            pixels = files.read(index)
        except (ValueError, FileNotFoundError) as error:
            scan.unreadable[key] = str(error)
            continue
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(len(channels), -1)  # (C, H W)
        same[blake2b(planes.tobytes(), digest_size=16).digest()].append(key)
        _scan_planes(scan, key, planes, channels)
        if n % every == 0:
            scan.histograms += [np.bincount(plane, minlength=256) for plane in planes]
    scan.copies = [keys for keys in same.values() if len(keys) > 1]
    return scan


def _scan_planes(scan: ImageScan, key: str, planes: NDArray[np.uint8], channels: Sequence[str]) -> None:
    blank = planes.max(1) == planes.min(1)
    saturated = (planes == 255).mean(1) > SATURATED
    for name, is_blank, is_saturated in zip(channels, blank, saturated, strict=True):
        if is_blank:
            scan.blank[name].append(key)
        elif is_saturated:
            scan.saturated[name].append(key)
    totals = planes.sum(1, dtype=np.int64)
    for a, b in combinations(np.flatnonzero(~blank), 2):
        if totals[a] == totals[b] and np.array_equal(planes[a], planes[b]):
            scan.equal[f"{channels[a]} = {channels[b]}"].append(key)

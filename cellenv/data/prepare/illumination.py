"""Uneven light and grey scale of a plate, one for each stain, from all of its fields.

Light: the mean of the fields, blurred by a heavy Gaussian, in units of its median, with a floor. Pixels are divided by
it, and then put on one scale, whose ends are percentiles of the whole plate, so that brightness can be compared between
its cells. Source: Singh et al. 2014, doi:10.1111/jmi.12178, as CellProfiler does.

C stains, H, W pixels, h, w pixels of the reduced light.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cellenv.data.prepare.planes import Pixels

REDUCTION = 8  # px: blocks whose mean is kept
FLOOR = 0.1  # of the median light; a darker corner is divided by this
SAMPLES = 2_000_000  # pixels of a plate whose percentiles are taken, of each stain


@dataclass(frozen=True, kw_only=True)
class ScaleRules:
    """How light and scale are estimated.

    divide_light: False leaves the light as it is. sigma: of the Gaussian, as a share of the shorter side of a field.
    subtract_dark: subtract the darkest 0.1 % of the plate first, the level of a camera without light.
    low, high: percentiles of the plate that become the ends of the scale.
    """

    divide_light: bool
    sigma: float
    subtract_dark: bool
    low: float
    high: float


@dataclass(frozen=True)
class FieldStatistics:
    """What is kept of fields: their number, the sum of their block means (C, h, w), sampled pixels (C, n).

    shape: (H, W) of the fields; they need one size. places: indices of the sampled pixels in a field, (n,). name: of
    the first of them.
    """

    count: int
    total: NDArray[np.float64]
    samples: Pixels
    places: NDArray[np.int64]
    shape: tuple[int, int]
    name: str


def summarize_field(pixels: Pixels, samples: int, seed: int, name: str) -> FieldStatistics:
    """Statistics of one field (C, H, W): block means, and random pixels."""
    _, height, width = pixels.shape
    rows, columns = ceil(height / REDUCTION), ceil(width / REDUCTION)
    padding = ((0, 0), (0, rows * REDUCTION - height), (0, columns * REDUCTION - width))
    blocks = np.pad(pixels, padding, mode="edge").reshape(len(pixels), rows, REDUCTION, columns, REDUCTION)
    places = np.random.default_rng(seed).integers(height * width, size=min(samples, height * width))
    sampled = pixels.reshape(len(pixels), -1)[:, places]
    return FieldStatistics(1, blocks.mean((2, 4), dtype=np.float64), sampled, places, (height, width), name)


def merge(statistics: Iterable[FieldStatistics]) -> FieldStatistics:
    """Statistics of all fields together, of which one sum is in memory at a time.

    Raises:
        ValueError: if the fields differ in size.
    """
    count, total, samples, places = 0, np.zeros(()), [], []
    first: FieldStatistics | None = None
    for one in statistics:
        first = first or one
        if one.shape != first.shape:
            raise ValueError(
                f"the fields of a plate need one size, but {first.name} has {first.shape} px and {one.name} has"
                f" {one.shape}: leave the odd ones out, or name them as another plate"
            )
        count += one.count
        total = total + one.total
        samples.append(one.samples)
        places.append(one.places)
    if first is None:
        raise ValueError("no field of the plate can be read")
    pixels = np.concatenate(samples, axis=1)
    return FieldStatistics(count, total, pixels, np.concatenate(places), first.shape, first.name)


@dataclass(frozen=True)
class Scale:
    """Correction of a plate: (pixels - dark) / light, whose values low to high become 0 to 1.

    dark, low, high: (C,). light: (C, h, w), its median is 1.
    """

    dark: NDArray[np.float64]
    light: Pixels
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def flatten(self, pixels: Pixels) -> Pixels:
        """Field (C, H, W) under even light, in grey values of the file."""
        light = np.stack([resize(plane, (pixels.shape[1], pixels.shape[2])) for plane in self.light])
        flat: Pixels = (pixels - self.dark[:, None, None].astype(np.float32)) / light
        return flat

    def normalise(self, pixels: Pixels) -> Pixels:
        """Field (C, H, W) under even light, in units of the scale: 0 to 1 but for the darkest and brightest pixels."""
        low, width = (values[:, None, None].astype(np.float32) for values in (self.low, self.high - self.low))
        scaled: Pixels = (self.flatten(pixels) - low) / width
        return scaled


def fit_scale(statistics: FieldStatistics, rules: ScaleRules, stains: Sequence[str]) -> Scale:
    """Light and scale of a plate.

    Raises:
        ValueError: if a stain is equally bright all over the plate.
    """
    dark = np.zeros(len(stains))
    if rules.subtract_dark:
        dark = np.percentile(statistics.samples, 0.1, axis=1)
    mean = statistics.total / statistics.count - dark[:, None, None]
    light = np.ones(mean.shape)
    if rules.divide_light:
        sigma = rules.sigma * min(statistics.shape) / REDUCTION
        smooth = np.stack([gaussian_filter(plane, sigma, mode="nearest") for plane in mean])
        median = np.median(smooth, axis=(1, 2), keepdims=True)
        light = (smooth / np.where(median > 0, median, 1)).clip(min=FLOOR)
    rows, columns = np.divmod(statistics.places, statistics.shape[1])
    found = light[:, rows // REDUCTION, columns // REDUCTION]
    flat = (statistics.samples - dark[:, None]) / found
    scale = Scale(dark, light.astype(np.float32), *np.percentile(flat, [rules.low, rules.high], axis=1))
    if flat_stains := [stain for stain, low, high in zip(stains, scale.low, scale.high) if not high > low]:
        raise ValueError(f"{', '.join(flat_stains)} is equally bright all over the plate: is a stain missing?")
    return scale


def resize(plane: Pixels, shape: tuple[int, int]) -> Pixels:
    """Plane (h, w) interpolated to another shape, anti-aliased where it shrinks."""
    height, width = shape
    resized: Pixels = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
    return resized

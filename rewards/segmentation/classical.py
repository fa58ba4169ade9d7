"""A segmenter that was not trained: threshold, distance, watershed.

B batch, H, W pixels. Nuclei from DNA alone, cells from actin and tubulin alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, label
from skimage.filters import threshold_otsu
from skimage.morphology import h_maxima
from skimage.segmentation import watershed
from torch import Tensor

from rewards.segmentation.decode import tidy
from rewards.segmentation.protocol import CHANNELS, Masks, split_channels

NOISE_SCALE = 3.0  # px: sigma at which noise has no contrast left


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one kind of object is found in its plane. Grey values are square roots of intensity, 0 to 1."""

    smooth: float  # px, sigma before the threshold
    lowest: float  # grey; Otsu's threshold is moved into these bounds
    highest: float
    contrast: float  # grey; with less between the brightest and the darkest place nothing is there
    neck: float  # px: a neck makes two objects if both are deeper than it by this much
    smallest: int  # px^2


NUCLEI = Settings(smooth=1.0, lowest=0.30, highest=0.60, contrast=0.3, neck=0.75, smallest=30)
CELLS = Settings(smooth=1.5, lowest=0.22, highest=0.32, contrast=0.2, neck=3.0, smallest=100)


def segment(plane: np.ndarray, settings: Settings) -> np.ndarray:
    """Otsu's threshold, then a watershed of the distance to it. (H, W) in [0, 1] -> labels (H, W) int32."""
    grey = gaussian_filter(np.sqrt(plane), settings.smooth)
    if np.ptp(gaussian_filter(grey, NOISE_SCALE)) < settings.contrast:
        return np.zeros(plane.shape, np.int32)
    inside = grey > np.clip(threshold_otsu(grey), settings.lowest, settings.highest)
    inside = binary_fill_holes(inside)
    if inside.all():  # no edge to measure a distance to
        return np.ones(plane.shape, np.int32)
    depth = gaussian_filter(distance_transform_edt(inside), 1.0)
    seeds, _ = label(h_maxima(depth, settings.neck), structure=np.ones((3, 3)))
    return watershed(-depth, seeds, mask=inside).astype(np.int32)


class ClassicalSegmenter:
    """Otsu and watershed with fixed settings for 96 x 96 crops of single cells. -> Masks."""

    def __call__(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks:
        dna, body = split_channels(images, channels)
        return Masks(_labels(dna, NUCLEI), _labels(body, CELLS))


def _labels(x: Tensor, settings: Settings) -> Tensor:
    """Objects in the mean of the channels of x, (B, C, H, W) in [-1, 1] -> (B, H, W) int32."""
    planes = ((x.mean(1) + 1) / 2).clamp(0, 1).cpu().numpy()  # (B, H, W)
    labels = np.zeros(planes.shape, np.int32)
    for b, plane in enumerate(planes):
        labels[b] = segment(plane, settings)
    return tidy(torch.from_numpy(labels), settings.smallest).to(x.device)

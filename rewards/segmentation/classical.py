"""A segmenter without training: Otsu's threshold and a watershed.

B batch, H, W pixels. Nuclei from DNA alone, cells from actin and tubulin alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, label
from skimage.filters import threshold_otsu
from skimage.morphology import h_maxima
from skimage.segmentation import watershed
from torch import Tensor

from rewards.segmentation.decode import postprocess_labels
from rewards.segmentation.protocol import CHANNELS, Masks, split_channels

NOISE_SIGMA = 3.0  # px: a Gaussian blur of this sigma removes pixel noise
DEPTH_SIGMA = 1.0  # px: of the distance transform


@dataclass(frozen=True, kw_only=True)
class ThresholdSettings:
    """How one kind of object is segmented. Grey values are square roots of intensity, 0 to 1."""

    sigma: float  # px, Gaussian blur before the threshold
    min_threshold: float  # grey; Otsu's threshold is clipped to these bounds
    max_threshold: float
    min_contrast: float  # grey; a blurred plane with a smaller range holds no object
    min_depth: float  # px; two objects if both maxima of the distance transform rise this far above the saddle
    min_size: int  # px^2; smaller objects are removed


NUCLEI = ThresholdSettings(
    sigma=1.0, min_threshold=0.30, max_threshold=0.60, min_contrast=0.3, min_depth=0.75, min_size=30
)
CELLS = ThresholdSettings(
    sigma=1.5, min_threshold=0.22, max_threshold=0.32, min_contrast=0.2, min_depth=3.0, min_size=100
)


def segment(plane: NDArray[np.float32], settings: ThresholdSettings) -> NDArray[np.int32]:
    """Labels by Otsu's threshold and a watershed of the distance transform. (H, W) in [0, 1] -> (H, W) int32."""
    grey = gaussian_filter(np.sqrt(plane), settings.sigma)
    if np.ptp(gaussian_filter(grey, NOISE_SIGMA)) < settings.min_contrast:
        return np.zeros(plane.shape, np.int32)
    inside = grey > np.clip(threshold_otsu(grey), settings.min_threshold, settings.max_threshold)
    inside = binary_fill_holes(inside)
    if inside.all():  # the distance transform needs a background
        return np.ones(plane.shape, np.int32)
    depth = gaussian_filter(distance_transform_edt(inside), DEPTH_SIGMA)
    seeds, _ = label(h_maxima(depth, settings.min_depth), structure=np.ones((3, 3)))
    return np.asarray(watershed(-depth, seeds, mask=inside), np.int32)


class ClassicalSegmenter:
    """Otsu's threshold and a watershed, with settings for 96 x 96 crops of single cells. -> Masks."""

    def __call__(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks:
        """Labels of images (B, C, H, W) in [-1, 1].

        Raises:
            ValueError: images or channel names are not what `split_channels` needs.
        """
        dna, body = split_channels(images, channels)
        return Masks(_labels(dna, NUCLEI), _labels(body, CELLS))

    def find_nuclei(self, dna: Tensor) -> Tensor:
        """Nuclei of images of any size, DNA (B, 1, H, W) in [-1, 1] -> (B, H, W) int32."""
        return _labels(dna, NUCLEI)


def _labels(x: Tensor, settings: ThresholdSettings) -> Tensor:
    """Objects in the mean of the channels of x, (B, C, H, W) in [-1, 1] -> (B, H, W) int32."""
    planes = ((x.mean(1) + 1) / 2).clamp(0, 1).cpu().numpy()  # (B, H, W)
    labels = np.zeros(planes.shape, np.int32)
    for b, plane in enumerate(planes):
        labels[b] = segment(plane, settings)
    return postprocess_labels(torch.from_numpy(labels), settings.min_size).to(x.device)

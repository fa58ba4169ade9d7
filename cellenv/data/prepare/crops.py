"""Square crops of single cells around their nuclei, as bytes.

n cells, C stains, H, W pixels of the field.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cellenv.data.prepare.filters import corner
from cellenv.data.prepare.nuclei import FoundNuclei
from cellenv.data.prepare.planes import Pixels


@dataclass(frozen=True, kw_only=True)
class CropRules:
    """How a cell is cut out.

    size: px. stretch: "plate" keeps the scale of the plate; "crop" stretches every channel of every crop to 0..255, as
    the published data are. neighbours: "mask" blackens the pixels that are nearer to another nucleus.
    """

    size: int
    stretch: Literal["plate", "crop"]
    neighbours: Literal["keep", "mask"]


def cut_out(pixels: Pixels, nuclei: FoundNuclei, chosen: Sequence[int], rules: CropRules) -> NDArray[np.uint8]:
    """Crops of the chosen nuclei (indices from 0), (n, size, size, C), from a field (C, H, W) on the plate's scale."""
    crops = np.empty((len(chosen), rules.size, rules.size, len(pixels)), np.uint8)
    for i, k in enumerate(chosen):
        y, x = nuclei.centres[k]
        top, left = corner(y, x, rules.size)
        window = slice(top, top + rules.size), slice(left, left + rules.size)
        crop = pixels[(slice(None), *window)]
        if rules.stretch == "crop":
            low, high = crop.min((1, 2), keepdims=True), crop.max((1, 2), keepdims=True)
            crop = (crop - low) / np.maximum(high - low, 1e-6)
        if rules.neighbours == "mask":
            crop = crop * own_pixels(nuclei.labels, k + 1, top, left, rules.size)
        crops[i] = np.rint(255 * crop.clip(0, 1)).transpose(1, 2, 0)
    return crops


def own_pixels(labels: NDArray[np.int32], own: int, top: int, left: int, size: int) -> NDArray[np.bool_]:
    """Pixels of a crop whose nearest nucleus is this one, (size, size); nuclei up to half a crop beyond it count.

    labels: of the field, (H, W).
    """
    first_row, first_column = max(top - size // 2, 0), max(left - size // 2, 0)
    near = labels[first_row : top + size + size // 2, first_column : left + size + size // 2]
    rows, columns = distance_transform_edt(near == 0, return_distances=False, return_indices=True)
    nearest: NDArray[np.bool_] = near[rows, columns] == own
    return nearest[top - first_row :, left - first_column :][:size, :size]

"""Tiny plates of bright disks, and what finds them."""

import numpy as np
import tifffile
import torch
from scipy.ndimage import label

from cellenv.data.prepare.crops import CropRules
from cellenv.data.prepare.fields import Field, Plane
from cellenv.data.prepare.filters import FilterRules
from cellenv.data.prepare.illumination import ScaleRules
from cellenv.data.prepare.wells import CellRules

SHAPE = (96, 128)
CENTRES = [(30, 30), (60, 64), (40, 116)]  # the last too near to the border for a crop
RULES = CellRules(
    channels=("actin", "tubulin", "DNA"),
    nucleus="DNA",
    scale=ScaleRules(divide_light=False, sigma=0.2, subtract_dark=False, low=0.1, high=99.9),
    filters=FilterRules(min_area=50, max_area=2000, max_blur=5.0),
    crops=CropRules(size=32, stretch="plate", neighbours="keep"),
    skip_bad=False,
)


def disks(shape, centres, radius):
    """Disks of brightness 1, (H, W)."""
    y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij")
    found = np.zeros(shape, np.float32)
    for cy, cx in centres:
        found[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 1
    return found


def threshold(dna):
    """Labels of what is bright, (B, 1, H, W) -> (B, H, W)."""
    return torch.stack([torch.from_numpy(label(plane.numpy() > 0)[0].astype(np.int32)) for plane in dna[:, 0]])


def make_threshold():
    return threshold


def write_plate(folder, plate="1", wells=("A01", "A02", "A03"), radius=8.0):
    """Fields of a plate, one a well, of three disks each, the first well DMSO."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = []
    for k, well in enumerate(wells):
        noise = np.random.default_rng(k).normal(100, 5, (3, *SHAPE))
        pixels = noise + 1000 * disks(SHAPE, [(y + k, x + k) for y, x in CENTRES], radius)
        file = folder / f"{plate}_{well}.tif"
        tifffile.imwrite(file, pixels.astype(np.uint16), photometric="minisblack")
        planes = tuple(Plane(file, c) for c in range(3))
        compound, moa = ("DMSO", "DMSO") if k == 0 else ("taxol", "Stab")
        fields.append(
            Field(
                batch="W",
                plate=plate,
                well=well,
                site="1",
                planes=planes,
                compound=compound,
                moa=moa,
                is_control=k == 0,
            )
        )
    return fields

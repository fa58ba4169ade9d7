"""Virtual cells: data sets, the image generator and the environments. Knows no optimizer.

It knows no reward either, but for `cellenv.gym.World`, which imports `rewards` when a world is built.
"""

from cellenv.data.cells import CellData
from cellenv.data.imaging import ImagingCells
from cellenv.data.synthetic import SyntheticCells
from cellenv.embedded import load_embedded
from cellenv.env import VirtualCellEnv
from cellenv.generator import CellFlux, GeneratorPolicy
from cellenv.registration import register_tasks

__all__ = [
    "CellData",
    "CellFlux",
    "GeneratorPolicy",
    "ImagingCells",
    "SyntheticCells",
    "VirtualCellEnv",
    "load_embedded",
]

register_tasks()

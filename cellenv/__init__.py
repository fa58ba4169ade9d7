"""The world: images of cells, conditions, time, the generator, the bandit. Knows no reward and no optimizer."""

from cellenv.data.cells import CellData
from cellenv.data.synthetic import SyntheticCells
from cellenv.embedded import load_embedded
from cellenv.env import VirtualCellEnv
from cellenv.generator import CellFlux, GeneratorPolicy
from cellenv.registration import register_tasks

__all__ = ["CellData", "CellFlux", "GeneratorPolicy", "SyntheticCells", "VirtualCellEnv", "load_embedded"]

register_tasks()

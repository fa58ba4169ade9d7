"""Do the nuclei lie inside cells?"""

from torch import Tensor

from rewards.measures import containment
from rewards.transforms import CELLS, NUCLEI, ImageReward


def containment_reward(nuclei: Tensor, cells: Tensor) -> Tensor:
    """Share of nuclear area inside the cytoplasm mask, mean over nuclei, in [0, 1]; 0 without a nucleus or a cell.

    nuclei, cells: labels (B, H, W) -> (B,). Source: CellFluxRL, arXiv:2603.21743.
    """
    return containment(nuclei, cells).nan_to_num(nan=0.0)


class NucleusInCytoplasm(ImageReward):
    """("rewards", "containment")."""

    def __init__(self):
        super().__init__("containment", containment_reward, [NUCLEI, CELLS])

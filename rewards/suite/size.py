"""Are the largest nucleus and the largest cell as large as in real images of the same mechanism of action (MoA)?"""

from functools import partial

import torch
from torch import Tensor

from rewards.measures import area_max
from rewards.reference import Reference
from rewards.shaping import FAR, Shaping, clipped_square
from rewards.transforms import CELLS, NUCLEI, ImageReward


def size_reward(labels: Tensor, moa: Tensor, *, measure: str, reference: Reference, shaping: Shaping) -> Tensor:
    """shaping(z) of the largest area; no object counts as z = 5.

    labels: (B, H, W); moa: (B,) ids; measure: its name in the reference -> (B,). Source: CellFluxRL, arXiv:2603.21743.
    """
    area = area_max(labels)
    z = reference.zscore(measure, area, moa)
    return shaping(torch.where(area.isnan(), FAR, z))


class NucleusSize(ImageReward):
    """("rewards", "nucleus_size")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(size_reward, measure="nucleus_area_max", reference=reference, shaping=shaping)
        super().__init__("nucleus_size", function, [NUCLEI, "moa"])


class CellSize(ImageReward):
    """("rewards", "cell_size")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(size_reward, measure="cell_area_max", reference=reference, shaping=shaping)
        super().__init__("cell_size", function, [CELLS, "moa"])

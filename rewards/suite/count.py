"""Are there as many nuclei and cells as in real images of the same mechanism of action (MoA)?"""

from functools import partial

from torch import Tensor

from rewards.measures import count
from rewards.reference import Reference
from rewards.shaping import Shaping, clipped_square
from rewards.transforms import CELLS, NUCLEI, ImageReward


def count_reward(labels: Tensor, moa: Tensor, *, measure: str, reference: Reference, shaping: Shaping) -> Tensor:
    """shaping(z) of the number of objects; none is a number too.

    labels: (B, H, W); moa: (B,) ids; measure: its name in the reference -> (B,). Source: CellFluxRL, arXiv:2603.21743.
    """
    return shaping(reference.zscore(measure, count(labels), moa))


class NucleusCount(ImageReward):
    """("rewards", "nucleus_count")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(count_reward, measure="nucleus_count", reference=reference, shaping=shaping)
        super().__init__("nucleus_count", function, [NUCLEI, "moa"])


class CellCount(ImageReward):
    """("rewards", "cell_count")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(count_reward, measure="cell_count", reference=reference, shaping=shaping)
        super().__init__("cell_count", function, [CELLS, "moa"])

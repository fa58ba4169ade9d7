"""Are the largest nucleus and the largest cell as large as in real images of the same mechanism, or compound?

B batch.
"""

from functools import partial

from torch import Tensor

from rewards.reference import Reference
from rewards.shaping import Z_MAX, Shaping, clipped_square
from rewards.transforms import ReferenceReward


def size_reward(
    area: Tensor, population: Tensor | None = None, *, measure: str, reference: Reference, shaping: Shaping
) -> Tensor:
    """shaping(z) of the area of the largest object; an image without an object counts as z = 5.

    With the default shaping no z is worth less, so that deleting does not pay; with the paper's -z^2 some are.

    Args:
        area: (B,) px^2; nan without an object.
        population: (B,) ids; None: the reference has one population.
        measure: name of the area in the reference, "nucleus_area_max" or "cell_area_max".
        reference: gives z, the distance from real images of the population in standard deviations.
        shaping: z -> reward, (B,) -> (B,).

    Returns:
        (B,); nan for a population without statistics.

    Raises:
        ValueError: the reference has no such measure, or not this population.

    Source: CellFluxRL, arXiv:2603.21743.

    Example:
        >>> import torch
        >>> from rewards.shaping import square
        >>> name = "cell_area_max"
        >>> moments = dict(mean={name: torch.tensor([2000.0])}, std={name: torch.tensor([300.0])})
        >>> reference = Reference(populations=("DNA damage",), count=torch.tensor([40]), about={}, **moments)
        >>> area, moa = torch.tensor([1400.0, torch.nan]), torch.zeros(2, dtype=torch.int64)
        >>> size_reward(area, moa, measure=name, reference=reference, shaping=square)
        tensor([ -4., -25.])
    """
    return shaping(reference.zscore(measure, area, population, undefined=Z_MAX))


class NucleusSize(ReferenceReward):
    """("rewards", "nucleus_size")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(size_reward, measure="nucleus_area_max")
        super().__init__("nucleus_size", function, ["nucleus_area_max"], reference, shaping)


class CellSize(ReferenceReward):
    """("rewards", "cell_size")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(size_reward, measure="cell_area_max")
        super().__init__("cell_size", function, ["cell_area_max"], reference, shaping)

"""Are there as many nuclei and cells as in real images of the same mechanism of action, or compound? B batch."""

from functools import partial

from torch import Tensor

from rewards.reference import Reference
from rewards.shaping import Shaping, clipped_square
from rewards.transforms import ReferenceReward


def count_reward(
    count: Tensor, population: Tensor | None = None, *, measure: str, reference: Reference, shaping: Shaping
) -> Tensor:
    """shaping(z) of the number of objects; 0 objects have a z-score like any other number.

    Args:
        count: (B,) objects.
        population: (B,) ids; None: the reference has one population.
        measure: name of the count in the reference, "nucleus_count" or "cell_count".
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
        >>> moments = dict(mean={"cell_count": torch.tensor([1.0])}, std={"cell_count": torch.tensor([0.0])})
        >>> reference = Reference(populations=("Eg5 inhibitors",), count=torch.tensor([40]), about={}, **moments)
        >>> count, moa = torch.tensor([1.0, 0.0]), torch.zeros(2, dtype=torch.int64)
        >>> count_reward(count, moa, measure="cell_count", reference=reference, shaping=square).round()
        tensor([ -0., -12.])
    """
    return shaping(reference.zscore(measure, count, population))


class NucleusCount(ReferenceReward):
    """("rewards", "nucleus_count")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(count_reward, measure="nucleus_count")
        super().__init__("nucleus_count", function, ["nucleus_count"], reference, shaping)


class CellCount(ReferenceReward):
    """("rewards", "cell_count")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(count_reward, measure="cell_count")
        super().__init__("cell_count", function, ["cell_count"], reference, shaping)

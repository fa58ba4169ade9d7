"""Are the nuclei as round as those of real cells of the same mechanism of action, or compound? B batch."""

import torch
from torch import Tensor

from rewards.reference import Reference
from rewards.shaping import Z_MAX, Shaping, clipped_square
from rewards.transforms import ReferenceReward

Z_ON_BORDER = 1.0  # where no nucleus can be measured: -z^2 is then what a real image earns on average, E[-z^2]


def roundness_reward(
    roundness: Tensor,
    nucleus_count: Tensor,
    population: Tensor | None = None,
    *,
    reference: Reference,
    shaping: Shaping,
) -> Tensor:
    """shaping(z) of the mean roundness of the nuclei that do not touch the border.

    Args:
        roundness: (B,) the measure of this name; nan without a nucleus, or where all touch the border.
        nucleus_count: (B,) the measure of this name, which tells these two cases apart.
        population: (B,) ids; None: the reference has one population.
        reference: gives z, the distance from real images of the population in standard deviations.
        shaping: z -> reward, (B,) -> (B,).

    Returns:
        (B,). An image without a nucleus counts as z = 5, so that with the default shaping removing nuclei does not
        pay; one whose nuclei all touch the border counts as z = 1. nan for a population without statistics.

    Raises:
        ValueError: the reference has no roundness, or not this population.

    Source: CellFluxRL, arXiv:2603.21743; the two rules under Returns are ours.

    Example:
        >>> from rewards.shaping import square
        >>> moments = dict(mean={"roundness": torch.tensor([0.8])}, std={"roundness": torch.tensor([0.1])})
        >>> reference = Reference(populations=("DNA damage",), count=torch.tensor([40]), about={}, **moments)
        >>> roundness = torch.tensor([0.6, torch.nan, torch.nan])
        >>> nucleus_count, moa = torch.tensor([2.0, 1.0, 0.0]), torch.zeros(3, dtype=torch.int64)
        >>> roundness_reward(roundness, nucleus_count, moa, reference=reference, shaping=square)
        tensor([ -4.0000,  -1.0000, -25.0000])
    """
    undefined = torch.where(nucleus_count > 0, Z_ON_BORDER, Z_MAX)
    return shaping(reference.zscore("roundness", roundness, population, undefined=undefined))


class Roundness(ReferenceReward):
    """("rewards", "roundness")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        super().__init__("roundness", roundness_reward, ["roundness", "nucleus_count"], reference, shaping)

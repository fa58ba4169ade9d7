"""Do the nuclei lie inside cells? B batch."""

from torch import Tensor

from rewards.transforms import ImageReward


def containment_reward(containment: Tensor) -> Tensor:
    """Share of a nucleus that lies inside a cell, mean over the nuclei; 0 without a nucleus or a cell.

    Args:
        containment: (B,) the measure of this name, in [0, 1]; nan without a nucleus.

    Returns:
        (B,) in [0, 1].

    Source: CellFluxRL, arXiv:2603.21743.

    Example:
        >>> import torch
        >>> containment_reward(torch.tensor([0.75, torch.nan]))
        tensor([0.7500, 0.0000])
    """
    return containment.nan_to_num(nan=0.0)


class NucleusInCytoplasm(ImageReward):
    """("rewards", "containment")."""

    def __init__(self) -> None:
        super().__init__("containment", containment_reward, [("measures", "containment")])

"""Are the nuclei as round as those of real cells under the same mechanism of action (MoA)?"""

from functools import partial

import torch
from torch import Tensor

from rewards.measures import roundness
from rewards.reference import Reference
from rewards.shaping import FAR, Shaping, clipped_square
from rewards.transforms import NUCLEI, ImageReward

UNMEASURED = -1.0  # what a real image earns on average


def roundness_reward(nuclei: Tensor, moa: Tensor, *, reference: Reference, shaping: Shaping) -> Tensor:
    """shaping(z) of the mean roundness of the nuclei that do not touch the border.

    No nucleus counts as z = 5, so that deleting nuclei cannot pay; nuclei that all touch the border earn -1.
    nuclei: labels (B, H, W); moa: (B,) ids -> (B,). Source: CellFluxRL, arXiv:2603.21743; the two rules are ours.
    """
    value = roundness(nuclei)
    z = reference.zscore("roundness", value, moa)
    present = (nuclei > 0).flatten(1).any(1)  # (B,)
    reward = shaping(torch.where(present, z, FAR))
    return torch.where(present & value.isnan(), UNMEASURED, reward)


class Roundness(ImageReward):
    """("rewards", "roundness")."""

    def __init__(self, reference: Reference, shaping: Shaping = clipped_square):
        function = partial(roundness_reward, reference=reference, shaping=shaping)
        super().__init__("roundness", function, [NUCLEI, "moa"])

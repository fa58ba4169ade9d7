"""What tests of IMPA share: small sizes and four contexts."""

import torch
from torch import Tensor

from examples.baselines.impa import IMPAConfig

SIZES = IMPAConfig(size=(3, 8, 8), condition_dim=4, compounds=5, width=4, levels=2, patch=2, style_dim=6, noise_dim=3)


def contexts() -> tuple[Tensor, Tensor, Tensor]:
    """Controls (4, 3, 8, 8), conditions (4, 4) and compound ids (4,)."""
    rng = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 8, 8, generator=rng) * 2 - 1, torch.randn(4, 4, generator=rng), torch.tensor([0, 4, 2, 2])

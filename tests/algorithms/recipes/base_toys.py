"""A data set and a network small enough to train a base in a second."""

import torch
from safetensors.torch import load_file

from cellenv.data.cells import CellData
from cellenv.networks import UNetConfig

TINY_BASE = UNetConfig(condition_dim=4, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.1)


class FewCells(CellData):
    """Noise: 24 images, two compounds, two plates; a control's first pixel is -1 and a treated image's 1."""

    channels = ("actin", "tubulin", "DNA")
    size = (3, 8, 8)
    compounds = moas = ("a", "b")
    compound_moa = torch.tensor([0, 1])

    def __init__(self):
        rng = torch.Generator().manual_seed(0)
        self.perturbation = torch.arange(24) % 3 - 1
        self.plate = torch.arange(24) // 12
        self.keys = tuple(map(str, range(24)))
        self.conditions = torch.randn(2, 4, generator=rng)
        self.pixels = torch.rand(24, *self.size, generator=rng) * 1.8 - 0.9
        self.pixels[:, 0, 0, 0] = torch.where(self.perturbation < 0, -1.0, 1.0)

    def images(self, rows):
        return self.pixels[rows]


def saved_weights(folder, steps):
    """All weights of the generator that a run published, flattened."""
    weights = load_file(folder / f"generator-{steps:06d}" / "model.safetensors")
    return torch.cat([weights[name].flatten() for name in sorted(weights)])

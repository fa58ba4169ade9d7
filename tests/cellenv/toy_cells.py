"""A small data set of noise: 60 images of 3 x 8 x 8, four compounds, two mechanisms, five plates."""

import torch

from cellenv.data.cells import CellData


class ToyCells(CellData):
    channels = ("actin", "tubulin", "DNA")
    size = (3, 8, 8)
    compounds = ("a", "b", "c", "d/e")
    moas = ("p", "q")
    compound_moa = torch.tensor([0, 1, 1, 0])

    def __init__(self):
        rng = torch.Generator().manual_seed(0)
        row = torch.arange(60)
        self.perturbation = (row % 6 - 2).clamp(min=-1)  # two controls in six
        self.plate = row % 5
        self.keys = tuple(f"cell{i}" for i in row.tolist())
        self.conditions = torch.randn(4, 5, generator=rng)
        self.pixels = torch.rand(60, *self.size, generator=rng) * 2 - 1

    def images(self, rows):
        return self.pixels[rows]


class UnlabelledCells(ToyCells):
    """The same without mechanisms."""

    moas = ()
    compound_moa = torch.full((4,), -1)

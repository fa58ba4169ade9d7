"""Rewards without training: a threshold for a segmenter, a linear classifier, drawn images and their statistics."""

import torch
from tensordict import TensorDict
from torch import nn

from cellenv.data.synthetic import SyntheticCells
from rewards.reference import Reference
from rewards.segmentation.protocol import CHANNELS, Masks
from rewards.suite.spec import RewardParts
from rewards.transforms import CELLS, NUCLEI

SIZE = 96
MOAS = SyntheticCells.moas
M = len(MOAS)


def toy_segmenter(images, channels=CHANNELS):
    """One nucleus where DNA is above 0, one cell where actin is."""
    planes = dict(zip(channels, images.unbind(1), strict=True))
    return Masks((planes["DNA"] > 0).int(), (planes["actin"] > 0).int())


class CountingSegmenter:
    """`toy_segmenter` that records the shape and the channels of every call."""

    def __init__(self):
        self.calls = []

    def __call__(self, images, channels=CHANNELS):
        self.calls.append((tuple(images.shape), channels))
        return toy_segmenter(images, channels)


class Brightness(nn.Module):
    """Logit of MoA m = 4 m mean(tubulin)."""

    def forward(self, images):
        return images[:, 1].mean((1, 2)).unsqueeze(1) * 4 * torch.arange(M)


# Statistics of MoA m: these times 1 + m / 10, so that a wrong MoA shows
MEANS = {"nucleus_area_max": 400.0, "cell_area_max": 2000.0, "roundness": 0.9, "nucleus_count": 1.0, "cell_count": 1.0}
STDS = {"nucleus_area_max": 50.0, "cell_area_max": 300.0, "roundness": 0.05, "nucleus_count": 0.5, "cell_count": 0.4}
REFERENCE = Reference(
    populations=MOAS,
    count=torch.full((M,), 100),
    mean={name: mean * (1 + 0.1 * torch.arange(M)) for name, mean in MEANS.items()},
    std={name: std * (1 + 0.1 * torch.arange(M)) for name, std in STDS.items()},
    about={},
)


def z_score(name, value, moa=0):
    """The z-score of a value by hand."""
    sigma = STDS[name] * (1 + 0.1 * moa)
    if name.endswith("count"):
        sigma = (sigma**2 + 1 / 12) ** 0.5
    return (value - MEANS[name] * (1 + 0.1 * moa)) / sigma


def rectangle(image, channel, y, x, height, width):
    image[CHANNELS.index(channel), y : y + height, x : x + width] = 1


def drawn_images():
    """A cell with its nucleus half outside; no nucleus; a nucleus on the border; nothing; a nucleus without a cell."""
    images = torch.full((5, 3, SIZE, SIZE), -1.0)
    rectangle(images[0], "actin", 20, 20, 40, 50)
    rectangle(images[0], "DNA", 50, 30, 20, 20)
    rectangle(images[1], "actin", 20, 20, 40, 50)
    rectangle(images[2], "actin", 0, 0, 40, 50)
    rectangle(images[2], "DNA", 0, 10, 20, 20)
    rectangle(images[4], "DNA", 50, 30, 20, 20)
    images[0, 1] = 0.2
    return images


def scored(spec):
    """A reward that needs no parts, of the drawn images, (5,)."""
    masks = toy_segmenter(drawn_images())
    context = {"action": drawn_images(), "x0": drawn_images() / 2, "moa": torch.arange(5)}
    td = TensorDict({**context, NUCLEI: masks.nuclei, CELLS: masks.cells}, [5])
    return spec.build(RewardParts())(td)["rewards", spec.name].squeeze(1)

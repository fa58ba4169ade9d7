"""Cellpose without trained weights: the real class with random weights, and a stub that segments bright pixels."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from skimage.measure import label as connected

from rewards.segmentation import CHANNELS
from rewards.segmentation.targets import unit_flows

try:
    MAJOR = int(version("cellpose").split(".")[0])
except PackageNotFoundError:  # as with Python 3.13
    MAJOR = 0
needs3 = pytest.mark.skipif(MAJOR != 3, reason="needs Cellpose 3.1")
inside_cellpose = [  # of Cellpose 3.1 under a recent torch
    pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]


def save_random(file, seed=3, drop=(), **sizes):
    """Write random weights of the real class of 3.1.

    sizes: diam_mean, diam_labels in px. drop: parts of the names of tensors that are left out.
    """
    from cellpose.resnet_torch import CPnet

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CPnet([2, 32, 64, 128, 256], 3, 3)
    network.output[2].weight.data *= 20  # else all pixels are foreground, or none is
    state = network.state_dict() | {name: torch.tensor([float(px)]) for name, px in sizes.items()}
    torch.save({name: value for name, value in state.items() if not any(part in name for part in drop)}, file)
    return file


def discs(height, width, *spots):
    """Labels (height, width) int32 of discs (y, x, radius), numbered in reading order."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = torch.zeros(height, width, dtype=torch.bool)
    for cy, cx, radius in spots:
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    return torch.from_numpy(connected(inside.numpy(), connectivity=1)).int()


def voronoi(n_cells, size, reach, rng):
    """Touching objects: the nearest of n points, up to a distance."""
    y, x = np.mgrid[:size, :size]
    points = rng.uniform(0, size, (n_cells, 2))
    distance = np.stack([np.hypot(rng.uniform(0.7, 1.4) * (y - a), x - b) for a, b in points])
    return np.where(distance.min(0) < reach, distance.argmin(0) + 1, 0)


def voronoi_cells():
    """Labels of twelve images of one to six touching objects, (12, 96, 96) int32."""
    rng = np.random.default_rng(0)
    labels = [voronoi(rng.integers(1, 7), 96, rng.uniform(12, 40), rng) for _ in range(12)]
    return torch.as_tensor(np.stack(labels), dtype=torch.int32)


def paint(**labels):
    """Images (B, 3, H, W): 1 in the objects of each named channel, labels (B, H, W), and -1 elsewhere."""
    shape = next(iter(labels.values())).shape
    return torch.stack([2.0 * (labels.get(name, torch.zeros(shape)) > 0) - 1 for name in CHANNELS], 1)


NUCLEI = torch.stack([discs(64, 96, (20, 20, 9), (40, 70, 12)), discs(64, 96, (32, 48, 10)), discs(64, 96)])
CELLS = torch.stack([discs(64, 96, (30, 60, 25)), discs(64, 96, (32, 20, 15), (30, 76, 15)), discs(64, 96, (9, 9, 8))])
IMAGES = paint(actin=CELLS, tubulin=CELLS, DNA=NUCLEI)  # nuclei lie across the borders of cells, and outside


def ideal_output(planes):
    """Output of a perfect network for planes (B, K, H, W), whose objects are the connected pixels above 0.5.

    Returns 5 x flow and logit, (B, 3, H, W), and a style, (B, 256).
    """
    inside = planes.amax(1).cpu() > 0.5
    labels = torch.stack([torch.from_numpy(connected(one.numpy(), connectivity=1)) for one in inside]).int()
    flows = unit_flows(labels)
    return torch.cat([5 * flows, 10.0 * inside.unsqueeze(1) - 5], 1).float(), torch.ones(len(planes), 256)


def stub_network(monkeypatch, model, answer=ideal_output):
    """Replace the network of a model by `answer`. Returns a list that collects its inputs."""
    seen = []

    def forward(planes):
        seen.append(planes.clone())
        return answer(planes)

    monkeypatch.setattr(model.net, "forward", forward)
    return seen

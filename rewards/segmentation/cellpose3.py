"""Cellpose 3.1: two residual U-Nets of 6.6 M parameters, for nuclei and for cells. B batch, H, W pixels.

A network takes two planes: the grey image of the objects, and that of the nuclei inside them, which stays
empty here. It expects objects of one size, `diam_mean` px, to which images are rescaled. The size is read
from the weights file; if it is absent there, Cellpose assumes 17 px for a file named `nucleitorch_0` and 30
px for any other.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from rewards.segmentation.embedded import normalise

WEIGHTS = ("nuclei", "cyto3")
FILES = {"nuclei": "nucleitorch_0", "cyto": "cytotorch_0", "cyto2": "cyto2torch_0"}  # others: the model's name
DIAMETERS = (50.0, 90.0)  # px, in the 96 x 96 crops of BBBC021
BATCH_SIZE = 64
OPTIONAL = ("diam_mean", "diam_labels", "num_batches_tracked")  # absent from older files of Cellpose


def load(file: Path, device: torch.device) -> Any:
    """The cellpose.models.CellposeModel of a weights file.

    Raises:
        ValueError: the file cannot be read, or lacks tensors, which Cellpose would leave at random values.
    """
    from cellpose.models import CellposeModel
    from cellpose.resnet_torch import CPnet

    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{file} cannot be read: it is damaged, or holds no weights") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{file} holds no weights: need a dict of tensors, got a {type(stored).__name__}")
    needed = [name for name in CPnet([2, 32, 64, 128, 256], 3, 3).state_dict() if not name.endswith(OPTIONAL)]
    if absent := [name for name in needed if name not in stored]:
        why = "it is one of Cellpose 4: pip install 'cellpose>=4.1'" if "W2" in stored else "is it damaged?"
        count = f"{len(absent)} of {len(needed)} tensors are absent, first {absent[0]}"
        raise ValueError(f"{file} is no model of Cellpose 3: {count}; {why}")
    # mkldnn would convert the weights again in every forward pass, and is no faster
    return CellposeModel(pretrained_model=str(file), device=device, gpu=device.type != "cpu", mkldnn=False)


def planes(x: Tensor) -> Tensor:
    """Network input, (B, 2, H, W), of x, (B, 1 or 2, H, W) in [-1, 1]: the channel mean, scaled, and zeros."""
    grey = normalise(x.mean(1, keepdim=True))  # Cellpose's own percentile scaling turns noise into nuclei
    return torch.cat([grey, torch.zeros_like(grey)], 1)

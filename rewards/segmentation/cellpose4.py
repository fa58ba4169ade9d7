"""Cellpose 4 (Cellpose-SAM, Pachitariu et al. 2025): a vision transformer of 305 M parameters.

One network segments both kinds of object. It takes three planes in any order, and objects of 7 to 120 px.
B batch, H, W pixels.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rewards.segmentation.embedded import normalise

WEIGHTS = ("cpsam", "cpsam")
DIAMETERS = (0.0, 0.0)  # no rescaling
BATCH_SIZE = 8  # each image is padded to 256 x 256 px, 1,024 tokens


def load(file: Path, device: torch.device) -> Any:
    """The cellpose.models.CellposeModel of a weights file; bfloat16 on CUDA only, being slower on a CPU."""
    from cellpose.models import CellposeModel

    half = device.type == "cuda"
    return CellposeModel(pretrained_model=str(file), device=device, gpu=device.type != "cpu", use_bfloat16=half)


def planes(x: Tensor) -> Tensor:
    """Network input, (B, 3, H, W), of x, (B, 1 or 2, H, W) in [-1, 1]: its channels, scaled, and zeros."""
    return pad(normalise(x), (0, 0, 0, 0, 0, 3 - x.shape[1]))

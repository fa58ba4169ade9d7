"""Cellpose 4 (Cellpose-SAM, Pachitariu et al. 2025): a vision transformer of 305 M parameters. B batch, H, W pixels.

One network for both kinds of object, which takes three planes in any order and sizes of objects from 7 to 120 px.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rewards.segmentation.embedded import normalise

WEIGHTS = ("cpsam", "cpsam")
DIAMETERS = (0.0, 0.0)  # as the images are
BATCH_SIZE = 8  # each is padded to 256 x 256 px, 1,024 tokens


def load(file: Path, device: torch.device) -> Any:
    """The model of a file, a cellpose.models.CellposeModel. Half precision on CUDA only: a CPU has it at a loss."""
    from cellpose.models import CellposeModel

    half = device.type == "cuda"
    return CellposeModel(pretrained_model=str(file), device=device, gpu=device.type != "cpu", use_bfloat16=half)


def planes(x: Tensor) -> Tensor:
    """What its network sees of x, (B, 1 or 2, H, W) in [-1, 1]: each about 0 to 1, filled up with 0. (B, 3, H, W)."""
    return pad(normalise(x), (0, 0, 0, 0, 0, 3 - x.shape[1]))

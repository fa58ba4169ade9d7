"""The Cellpose package (Stringer et al. 2021) behind the protocol of this library: 3.1, and Cellpose-SAM of 4.x.

B batch, H, W pixels. Cellpose is imported when a segmenter is built. Nothing is ever downloaded here.
"""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.segmentation.decode import tidy
from rewards.segmentation.embedded import normalise
from rewards.segmentation.protocol import CHANNELS, Masks, split_channels

FILES = {"nuclei": "nucleitorch_0", "cyto": "cytotorch_0", "cyto2": "cyto2torch_0"}  # others are named as their model
IMAGES_AT_ONCE = 8


def find_weights(weights: str | Path) -> Path:
    """The file of a model: a path, or the name of a model in Cellpose's own folder."""
    folder = Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models")
    places = [Path(weights), folder / FILES.get(str(weights), str(weights))]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"no Cellpose weights {str(weights)!r}: looked for {places[0].absolute()} and {places[1]}. Give the path of "
        "the file, or let Cellpose fetch its models where there is a network, or set CELLPOSE_LOCAL_MODELS_PATH"
    )


class CellposeSegmenter:
    """Two passes of Cellpose: DNA alone for nuclei; actin and tubulin, without DNA, for cells. -> Masks.

    nucleus_weights, cell_weights: names (Cellpose 3.1: "nuclei", "cyto3"; 4.x: "cpsam" for both) or paths.
    nucleus_diameter, cell_diameter: px, usual size in the images. flow_threshold: Cellpose's; 0 keeps every object.
    least_nucleus, least_cell: px^2; smaller objects are left out.
    """

    def __init__(
        self,
        nucleus_weights: str | Path = "nuclei",
        cell_weights: str | Path = "cyto3",
        *,
        nucleus_diameter: float = 40.0,
        cell_diameter: float = 75.0,
        flow_threshold: float = 0.4,
        least_nucleus: int = 30,
        least_cell: int = 100,
        device: str | torch.device = "cpu",
    ):
        self.major = int(version("cellpose").split(".")[0])
        self.flow_threshold = flow_threshold
        self.nuclei = self._load(find_weights(nucleus_weights), torch.device(device)), nucleus_diameter, least_nucleus
        self.cells = self._load(find_weights(cell_weights), torch.device(device)), cell_diameter, least_cell

    def __call__(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks:
        """Labels of images (B, C, H, W) in [-1, 1]."""
        dna, body = split_channels(images, channels)
        return Masks(self._labels(normalise(dna), *self.nuclei), self._labels(normalise(body), *self.cells))

    def _load(self, weights: Path, device: torch.device) -> Any:
        from cellpose.models import CellposeModel

        if self.major >= 4:
            on_gpu = device.type != "cpu"
            return CellposeModel(pretrained_model=str(weights), device=device, gpu=on_gpu, use_bfloat16=on_gpu)
        mean = 17.0 if weights.name == FILES["nuclei"] else 30.0  # px, the diameter that these models were made for
        return CellposeModel(pretrained_model=str(weights), device=device, diam_mean=mean)

    def _labels(self, x: Tensor, model: Any, diameter: float, smallest: int) -> Tensor:
        """Objects in the planes of x, (B, 1 or 2, H, W) and about 0 to 1 -> (B, H, W) int32."""
        settings = {
            "diameter": diameter,
            "normalize": False,  # done, with a floor: a percentile stretch turns noise into nuclei
            "flow_threshold": self.flow_threshold,
            "max_size_fraction": 1.0,  # else a cell that fills the crop counts as none
            "min_size": smallest,
            "batch_size": IMAGES_AT_ONCE,
        }
        if not len(x):
            return x.new_zeros(x[:, 0].shape, dtype=torch.int32)
        if self.major >= 4:  # three planes in any order
            planes = torch.cat([x, x.new_zeros(len(x), 3 - x.shape[1], *x.shape[2:])], 1).movedim(1, 3)  # (B, H, W, 3)
            found = model.eval(planes.cpu().numpy(), channel_axis=3, **settings)[0]
        else:  # one grey plane; the second, nuclear one is 0
            found = model.eval(list(x.mean(1).cpu().numpy()), channels=[0, 0], **settings)[0]
        labels = np.asarray(found).reshape(x[:, 0].shape).astype(np.int32)
        return tidy(torch.from_numpy(labels), smallest).to(x.device)

"""The Cellpose package (Stringer et al. 2021, doi:10.1038/s41592-020-01018-x) behind the protocol of this library.

Two passes: DNA alone for nuclei; actin and tubulin, without DNA, for cells. What 3.1 and 4.x do not share lies in
cellpose3.py and cellpose4.py. Cellpose is imported when a segmenter is built, and nothing is ever downloaded.
B batch, H, W pixels, K planes that a network takes.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rewards.segmentation import cellpose3, cellpose4
from rewards.segmentation.decode import tidy
from rewards.segmentation.protocol import CHANNELS, Masks, split_channels


class Pass(NamedTuple):
    """One run over the images, for one kind of object."""

    model: Any  # cellpose.models.CellposeModel
    diameter: float | None  # px
    least: int  # px^2


def find_weights(weights: str | Path) -> Path:
    """The file of a model: a path, or the name of a model in Cellpose's own folder."""
    folder = Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models")
    places = [Path(weights), folder / cellpose3.FILES.get(str(weights), str(weights))]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"no Cellpose weights {str(weights)!r}: looked for {places[0].absolute()} and {places[1]}. Give the path of "
        "the file, or set CELLPOSE_LOCAL_MODELS_PATH to its folder; docs/cellpose.md says where to fetch it"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No word from Cellpose short of an error: it takes a batch for a stack of planes, and warns at each."""
    logger = logging.getLogger("cellpose")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class CellposeSegmenter:
    """Nuclei and cells as the installed Cellpose sees them, 3.1 or 4.x. -> Masks, on the device of the images.

    nucleus_weights, cell_weights: paths, or names in Cellpose's own folder; None: "nuclei" and "cyto3" for 3.1, "cpsam"
        for both in 4.x.
    nucleus_diameter, cell_diameter: px, usual size of the objects; images are rescaled so that it becomes the size the
        network was trained for. None: 50 and 90 for 3.1, no rescaling for 4.x. 0: the size that the file of 3.1 names,
        no rescaling for 4.x.
    flow_threshold: Cellpose's, for objects whose flows contradict their shape; 0 keeps every object.
    least_nucleus, least_cell: px^2; smaller objects are left out.
    batch_size: images in one forward of a network (tiles, of images too large for one); None: 64 for 3.1, 8 for 4.x.
    device: where the networks run; None: a CUDA device where there is one, else the CPU.
    Its `files` are those of the two networks, of nuclei and of cells.
    """

    def __init__(
        self,
        nucleus_weights: str | Path | None = None,
        cell_weights: str | Path | None = None,
        *,
        nucleus_diameter: float | None = None,
        cell_diameter: float | None = None,
        flow_threshold: float = 0.4,
        least_nucleus: int = 30,
        least_cell: int = 100,
        batch_size: int | None = None,
        device: str | torch.device | None = None,
    ):
        family = cellpose4 if int(version("cellpose").split(".")[0]) >= 4 else cellpose3
        diameters = [
            usual if given is None else given
            for given, usual in zip((nucleus_diameter, cell_diameter), family.DIAMETERS, strict=True)
        ]
        if min(diameters) < 0:
            raise ValueError(f"need diameters of at least 0 px, got {diameters[0]} and {diameters[1]}")
        self.batch_size = family.BATCH_SIZE if batch_size is None else batch_size
        if self.batch_size < 1:
            raise ValueError(f"need a batch size of at least 1 image, got {batch_size}")
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        files = self.files = [
            find_weights(usual if given is None else given)
            for given, usual in zip((nucleus_weights, cell_weights), family.WEIGHTS, strict=True)
        ]
        models = {file: family.load(file, device) for file in set(files)}  # one network if one file serves both
        self.nuclei, self.cells = (
            Pass(models[file], diameter or None, least)
            for file, diameter, least in zip(files, diameters, (least_nucleus, least_cell), strict=True)
        )
        self.flow_threshold, self.planes = flow_threshold, family.planes

    def __call__(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks:
        """Labels of images (B, C, H, W) in [-1, 1]."""
        dna, body = split_channels(images, channels)
        return Masks(self._labels(dna, self.nuclei), self._labels(body, self.cells))

    def _labels(self, x: Tensor, one: Pass) -> Tensor:
        """Objects in x, (B, 1 or 2, H, W) in [-1, 1] -> (B, H, W) int32."""
        if not len(x):
            return x.new_zeros(x[:, 0].shape, dtype=torch.int32)
        planes = self.planes(x).movedim(1, 3)  # (B, H, W, K)
        with quiet():
            found = one.model.eval(
                planes.cpu().numpy(),  # one array, not a list: that would be one forward an image
                channel_axis=3,
                batch_size=self.batch_size,
                diameter=one.diameter,
                normalize={"normalize": False},  # done in `planes`; a plain False would stay in Cellpose's defaults
                flow_threshold=self.flow_threshold,
                max_size_fraction=1.0,  # else a cell that fills the crop counts as none
                min_size=one.least,
            )[0]  # (B, H, W) without the axes of length 1
        labels = torch.from_numpy(found.astype("int32")).reshape(x[:, 0].shape)
        return tidy(labels, one.least).to(x.device)

"""Segment with the Cellpose package (Stringer et al. 2021, doi:10.1038/s41592-020-01018-x).

Two passes: DNA alone for nuclei; actin and tubulin, without DNA, for cells. cellpose3.py and cellpose4.py
hold what differs between 3.1 and 4.x. Cellpose is imported when a segmenter is built, and nothing is
downloaded.

B batch, H, W pixels, K planes of the network input.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rewards.segmentation import cellpose3, cellpose4
from rewards.segmentation.decode import postprocess_labels
from rewards.segmentation.protocol import CHANNELS, Masks, split_channels


class Pass(NamedTuple):
    """How one kind of object is segmented."""

    model: Any  # cellpose.models.CellposeModel
    diameter: float | None  # px; None: chosen by Cellpose
    min_size: int  # px^2


def find_weights(weights: str | Path) -> Path:
    """The file of a model, given as a path or as the name of a model in Cellpose's own folder.

    Raises:
        FileNotFoundError: there is no such file.
    """
    folder = Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models")
    places = [Path(weights), folder / cellpose3.FILES.get(str(weights), str(weights))]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"no Cellpose weights {str(weights)!r}: looked for {places[0].absolute()} and {places[1]}. Give the path of "
        "the file, or set CELLPOSE_LOCAL_MODELS_PATH to its folder; docs/cellpose.md says where to fetch it"
    )


def installed_family() -> ModuleType:
    """The module for the installed Cellpose: cellpose3 or cellpose4.

    Raises:
        ImportError: none is installed.
    """
    try:
        return cellpose4 if int(version("cellpose").split(".")[0]) >= 4 else cellpose3
    except PackageNotFoundError:
        raise ImportError(
            "need Cellpose for this segmenter: pip install 'cellpose>=3.1.1,<4', or 'cellfluxrl[cellpose4]', the only "
            "one for Python 3.13"
        ) from None


@contextmanager
def errors_only() -> Iterator[None]:
    """Silence Cellpose's log below errors: it mistakes a batch for a z-stack, and warns in every call."""
    logger = logging.getLogger("cellpose")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class CellposeSegmenter:
    """Segment with the installed Cellpose, 3.1 or 4.x. -> Masks, on the device of the images.

    Args:
        nucleus_weights, cell_weights: paths, or names in Cellpose's own folder; None: "nuclei" and "cyto3"
            for 3.1, "cpsam" for both in 4.x.
        nucleus_diameter, cell_diameter: px, typical size of the objects; images are rescaled so that it
            becomes the size the network was trained for. None: 50 and 90 for 3.1, no rescaling for 4.x. 0:
            the mean size of the training objects, as recorded in a file of 3.1; no rescaling for 4.x.
        flow_threshold: Cellpose's limit on the mismatch between flows and mask of an object; 0 keeps every
            object.
        min_areas: px^2, of nuclei and of cells; smaller objects are removed.
        batch_size: images per forward pass (tiles of images that are too large); None: 64 for 3.1, 8 for 4.x.
        device: of the networks; None: CUDA if available, else the CPU.

    The attribute `files` holds the weights files of nuclei and of cells.

    Raises:
        ImportError: no Cellpose is installed.
        FileNotFoundError: a weights file is missing.
        ValueError: a file is no model of the installed Cellpose, a diameter is negative, or batch_size is
            below 1.
    """

    def __init__(
        self,
        nucleus_weights: str | Path | None = None,
        cell_weights: str | Path | None = None,
        *,
        nucleus_diameter: float | None = None,
        cell_diameter: float | None = None,
        flow_threshold: float = 0.4,
        min_areas: tuple[int, int] = (30, 100),
        batch_size: int | None = None,
        device: str | torch.device | None = None,
    ):
        family = installed_family()
        diameters = [
            default if given is None else given
            for given, default in zip((nucleus_diameter, cell_diameter), family.DIAMETERS, strict=True)
        ]
        if min(diameters) < 0:
            raise ValueError(f"need diameters of at least 0 px, got {diameters[0]} and {diameters[1]}")
        self.batch_size = family.BATCH_SIZE if batch_size is None else batch_size
        if self.batch_size < 1:
            raise ValueError(f"need a batch size of at least 1 image, got {batch_size}")
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        files = self.files = [
            find_weights(default if given is None else given)
            for given, default in zip((nucleus_weights, cell_weights), family.WEIGHTS, strict=True)
        ]
        models = {file: family.load(file, device) for file in set(files)}  # one network if one file serves both
        self.nuclei, self.cells = (
            Pass(models[file], diameter or None, min_size)
            for file, diameter, min_size in zip(files, diameters, min_areas, strict=True)
        )
        self.flow_threshold, self.planes = flow_threshold, family.planes

    def __call__(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks:
        """Labels of images (B, C, H, W) in [-1, 1].

        Raises:
            ValueError: images or channel names are not what `split_channels` needs.
        """
        dna, body = split_channels(images, channels)
        return Masks(self._labels(dna, self.nuclei), self._labels(body, self.cells))

    def find_nuclei(self, dna: Tensor) -> Tensor:
        """Nuclei of images of any size, DNA (B, 1, H, W) in [-1, 1] -> (B, H, W) int32."""
        return self._labels(dna, self.nuclei)

    def _labels(self, x: Tensor, settings: Pass) -> Tensor:
        """Objects in x, (B, 1 or 2, H, W) in [-1, 1] -> (B, H, W) int32."""
        if not len(x):
            return x.new_zeros(x[:, 0].shape, dtype=torch.int32)
        planes = self.planes(x).movedim(1, 3)  # (B, H, W, K)
        with errors_only():
            found = settings.model.eval(
                planes.cpu().numpy(),  # a list of images would cost one forward pass each
                channel_axis=3,
                batch_size=self.batch_size,
                diameter=settings.diameter,
                normalize={"normalize": False},  # `planes` does; a plain False changes Cellpose's defaults
                flow_threshold=self.flow_threshold,
                max_size_fraction=1.0,  # the default removes a cell that fills the crop
                min_size=settings.min_size,
            )[0]  # (B, H, W), squeezed
        labels = torch.from_numpy(found.astype("int32")).reshape(x[:, 0].shape)
        return postprocess_labels(labels, settings.min_size).to(x.device)

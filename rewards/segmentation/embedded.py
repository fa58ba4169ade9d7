"""The embedded segmenter: two small U-Nets that predict Cellpose's targets, decoded as Cellpose does.

B batch, C channels, H, W pixels. `cellfluxrl fit segmenter` trains it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from cellenv.weights_io import load_model, load_weights, save_weights
from rewards.segmentation.decode import decode, postprocess_labels, remove_faint
from rewards.segmentation.protocol import CHANNELS, Masks, split_channels

ASSETS = Path(__file__).parents[1] / "assets"
POOL = 4  # px: the range is taken of 4 x 4 px means, which are less noisy
MIN_RANGE = 0.4  # of [-1, 1]; an image with a smaller range is not stretched to full contrast
MOST_LEVELS = 8  # of a U-Net; H and W are multiples of 2^(levels - 1)
CROP = 96  # px, side of the images that the networks are trained on
CHUNK = 64  # images per forward pass, so that activations fit the cache


def normalise(x: Tensor) -> Tensor:
    """(x - low) / max(high - low, 0.4), with low and high the extremes of 4 x 4 px means. (B, C, H, W).

    The extremes are those of each image and channel; the floor of 0.4 keeps noise in empty images faint.
    """
    means = avg_pool2d(x, POOL)
    low, high = means.amin((2, 3), keepdim=True), means.amax((2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=MIN_RANGE)


class DoubleConv(nn.Sequential):
    """Two 3 x 3 convolutions, each with a ReLU."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )


class FlowNet(nn.Module):
    """A U-Net without normalisation layers, from images to 5 x flow (dy, dx) and the foreground logit.

    (B, C, H, W) -> (B, 3, H, W).

    Args:
        channels: C.
        widths: channels at full, half, ... resolution; H and W are multiples of 2^(levels - 1).
    """

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        pairs = list(pairwise(widths))  # (fine, coarse)
        self.down = nn.ModuleList(
            [DoubleConv(channels, widths[0]), *(DoubleConv(fine, coarse) for fine, coarse in pairs)]
        )
        self.up = nn.ModuleList([DoubleConv(coarse + fine, fine) for fine, coarse in reversed(pairs)])
        self.to_targets = nn.Conv2d(widths[0], 3, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down[0](x)
        skips = [x]
        for block in self.down[1:]:
            x = block(max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat([interpolate(x, scale_factor=2.0), skips.pop()], 1))
        return self.to_targets(x)


class Floors(NamedTuple):
    """Objects below either are removed; both are in units of the image."""

    area: float  # share of the area of the image
    contrast: float  # mean over the object of the normalised channels: 0 the darkest, 1 the brightest part of the image


@torch.no_grad()
def find_objects(network: FlowNet, x: Tensor, floors: Floors) -> Tensor:
    """Labels of the objects that one network finds in x, (B, C, H, W) in [-1, 1] -> (B, H, W) int32."""
    chunks = [x.new_zeros((0, *x.shape[2:]), dtype=torch.int32)]
    min_size = ceil(floors.area * x.shape[2] * x.shape[3])  # px^2
    with torch.autocast(x.device.type, enabled=False):
        for chunk in x.split(CHUNK):
            planes = normalise(chunk)
            out = network(planes.contiguous(memory_format=torch.channels_last))  # (b, 3, H, W)
            labels = postprocess_labels(decode(out[:, :2], out[:, 2]), min_size)
            chunks.append(remove_faint(labels, planes.mean(1), floors.contrast))
    return torch.cat(chunks)


@dataclass(frozen=True, kw_only=True)
class EmbeddedConfig:
    """What the JSON file beside the weights says: the arguments of an `EmbeddedSegmenter`, and how it was trained."""

    model: str  # name of the class
    nucleus_widths: tuple[int, ...]
    cell_widths: tuple[int, ...]
    min_nucleus_area: float = 0.0032
    min_cell_area: float = 0.0108
    min_cell_contrast: float = 0.025
    training: dict[str, Any] = field(default_factory=dict)


class EmbeddedSegmenter(nn.Module):
    """Segment nuclei from DNA alone, and cells from actin and tubulin alone. Frozen. -> Masks.

    Args:
        nucleus_widths, cell_widths: of the two U-Nets, see `FlowNet`; by default 57 k and 156 k parameters.
        min_nucleus_area, min_cell_area: shares of the image, in [0, 1]; smaller objects are removed. By default
            30 and 100 px^2 of 96 x 96.
        min_cell_contrast: in [0, 1]; a cell is removed if its mean of actin and tubulin, in the range of the
            image (see `normalise`), is lower: it is background.

    Raises:
        ValueError: a floor is outside [0, 1], or there are no widths.
    """

    shipped: ClassVar[Path] = ASSETS / "segmenter.safetensors"  # weights for the embedded world

    def __init__(
        self,
        nucleus_widths: Sequence[int] = (8, 16, 24, 32),
        cell_widths: Sequence[int] = (8, 16, 32, 36, 48),
        min_nucleus_area: float = 0.0032,
        min_cell_area: float = 0.0108,
        min_cell_contrast: float = 0.025,
    ):
        super().__init__()
        floors = {
            "min_nucleus_area": min_nucleus_area,
            "min_cell_area": min_cell_area,
            "min_cell_contrast": min_cell_contrast,
        }
        for name, widths in {"nucleus_widths": nucleus_widths, "cell_widths": cell_widths}.items():
            if not 1 <= len(widths) <= MOST_LEVELS or min(widths) < 1:
                raise ValueError(f"{name} needs 1 to {MOST_LEVELS} numbers of at least 1; got {list(widths)}"[:300])
        for name, floor in floors.items():
            if not 0 <= floor <= 1:
                raise ValueError(f"{name} must lie in [0, 1], in units of the image and not in px; got {floor}")
        self.config: dict[str, Any] = {
            "nucleus_widths": list(nucleus_widths),
            "cell_widths": list(cell_widths),
            **floors,
        }
        self.nucleus_floors = Floors(min_nucleus_area, 0.0)  # nuclei are the brightest objects of DNA
        self.cell_floors = Floors(min_cell_area, min_cell_contrast)
        self.nuclei = FlowNet(1, nucleus_widths)  # input: DNA
        self.cells = FlowNet(2, cell_widths)  # input: actin and tubulin
        self.multiple = 2 ** (max(len(nucleus_widths), len(cell_widths)) - 1)
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    @torch.no_grad()
    def forward(self, images: Tensor, channels: Sequence[str] = CHANNELS) -> Masks:
        """Labels of images (B, C, H, W) in [-1, 1]; H and W are multiples of `multiple`.

        Raises:
            ValueError: images or channel names are not what `split_channels` needs.
        """
        dna, body = split_channels(images, channels, multiple=self.multiple)
        nuclei = find_objects(self.nuclei, dna, self.nucleus_floors)
        return Masks(nuclei, find_objects(self.cells, body, self.cell_floors))

    def find_nuclei(self, dna: Tensor) -> Tensor:
        """Nuclei of images of any size, DNA (B, 1, H, W) in [-1, 1] -> (B, H, W) int32; H and W as for `forward`.

        The floor of the area is that of a crop in px^2, and no share of the image.
        """
        area = self.nucleus_floors.area * CROP**2 / (dna.shape[2] * dna.shape[3])
        return find_objects(self.nuclei, dna, self.nucleus_floors._replace(area=area))

    def save_pretrained(self, path: str | Path, training: dict[str, Any] | None = None) -> None:
        """Write weights and config, atomically; `training` records how they were made (command, scores)."""
        about = {"model": type(self).__name__} | self.config | {"training": training or {}}
        save_weights(path, self.state_dict(), about)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> Self:
        """The segmenter saved at path; None: the embedded world's.

        Raises:
            FileNotFoundError: there are no weights at path.
            ValueError: the weights are damaged, or those of another model.
        """
        path = cls.shipped if path is None else path
        config, state_dict = load_weights(path, EmbeddedConfig, cls.__name__)
        arguments = {name: value for name, value in asdict(config).items() if name not in ("model", "training")}
        return load_model(lambda: cls(**arguments), state_dict, path)

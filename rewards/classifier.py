"""Classifiers of the mechanism of action (MoA). B batch, C channels, H, W pixels, F features, M MoAs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from cellenv.checks import check_pixels
from cellenv.weights_io import load_model, load_weights, save_weights
from rewards.segmentation.protocol import CHANNELS

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """What the JSON file beside the weights says; training records how they were made (command, scores)."""

    model: str  # name of the class
    moas: tuple[str, ...]
    size: tuple[int, int, int]
    channels: tuple[str, ...]
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"need a size of 1 or more channels and pixels, got {self.size}")


class Classifier(nn.Module, ABC):
    """Images -> feature maps (trunk) -> features (`pool`) -> logits (linear head, divided by a temperature).

    The buffer `temperature` calibrates softmax(logits); it is 1 until it is fitted.

    Args:
        trunk: images (B, C, H, W) -> feature maps.
        n_features: F.
        moas: names; position is the id.
        size: (C, H, W) of the images.
        channels: their names, in order.

    Raises:
        ValueError: moas is empty, or the number of channel names is not C.
    """

    shipped: ClassVar[Path]  # weights for the embedded world

    def __init__(
        self, trunk: nn.Module, n_features: int, moas: Sequence[str], size: Sequence[int], channels: Sequence[str]
    ):
        super().__init__()
        n_channels, height, width = size
        self.moas, self.size, self.channels = tuple(moas), (n_channels, height, width), tuple(channels)
        if not self.moas:
            raise ValueError("need mechanisms of action: a column of the image table that names them (BBBC021: ANNOT)")
        if len(self.channels) != self.size[0]:
            raise ValueError(f"need a name for each of {self.size[0]} channels, got {self.channels}")
        self.trunk, self.head = trunk, nn.Linear(n_features, len(self.moas))
        self.register_buffer("temperature", torch.ones(()))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    @abstractmethod
    def pool(self, maps: Tensor) -> Tensor:
        """Features of the maps of the trunk, (B, ., h, w) -> (B, F)."""

    def features(self, images: Tensor) -> Tensor:
        """Input of the head, (B, C, H, W) in [-1, 1] of any float type -> (B, F), in the precision of the weights.

        Raises:
            ValueError: images of another size, or with pixels outside [-1, 1].
        """
        if images.shape[1:] != self.size:
            raise ValueError(f"need images of shape (B, {', '.join(map(str, self.size))}), got {tuple(images.shape)}")
        check_pixels(images, "a classifier")
        with torch.autocast(images.device.type, enabled=False):
            return self.pool(self.trunk(images.to(self.head.weight.dtype)))

    def forward(self, images: Tensor) -> Tensor:
        """Calibrated logits, (B, M)."""
        return self.logits(self.features(images))

    def logits(self, features: Tensor) -> Tensor:
        """Calibrated logits of features (B, F), (B, M), in the precision of the weights."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features) / self.temperature
        return logits

    def save_pretrained(self, path: str | Path, training: Mapping[str, Any] | None = None) -> None:
        """Write weights and config, atomically; `training` records how they were made (command, scores)."""
        config = ClassifierConfig(
            model=type(self).__name__,
            moas=self.moas,
            size=self.size,
            channels=self.channels,
            training=dict(training or {}),
        )
        save_weights(path, self.state_dict(), asdict(config))

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> Self:
        """The classifier saved at path, in eval mode; None: the embedded world's.

        Raises:
            FileNotFoundError: there are no weights at path.
            ValueError: the weights are damaged, or those of another model.
        """
        path = cls.shipped if path is None else path
        config, state_dict = load_weights(path, ClassifierConfig, cls.__name__)
        arguments: dict[str, Any] = {"moas": config.moas, "size": config.size, "channels": config.channels}
        return load_model(lambda: cls(**arguments), state_dict, path).eval()


class MoAClassifier(Classifier):
    """The classifier of the rewards: a small residual network on 2 x 2 px patches. F = 96.

    Args:
        moas: names of the mechanisms of action; position is the id.
        size: (C, H, W) of the images.
        channels: their names, in order.
    """

    shipped = ASSETS / "classifier.safetensors"

    def __init__(self, moas: Sequence[str], *, size: Sequence[int] = (3, 96, 96), channels: Sequence[str] = CHANNELS):
        trunk = nn.Sequential(
            nn.PixelUnshuffle(2),  # (B, 4 C, H / 2, W / 2)
            nn.Conv2d(4 * size[0], 32, 3, padding=1),
            Residual(32, 48),  # (B, 48, H / 4, W / 4)
            Residual(48, 72),  # (B, 72, H / 8, W / 8)
            Residual(72, 96),  # (B, 96, H / 16, W / 16)
            nn.GroupNorm(8, 96),
            nn.SiLU(),
        )
        super().__init__(trunk, 96, moas, size, channels)

    def pool(self, maps: Tensor) -> Tensor:
        """Global average pooling."""
        return maps.mean((2, 3))


class Residual(nn.Module):
    """Pre-activation residual block that halves H and W: 1 x 1 conv of pooled x + two 3 x 3 convs of x."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.skip = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.first = nn.Sequential(nn.GroupNorm(8, n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, stride=2, padding=1))
        self.second = nn.Sequential(nn.GroupNorm(8, n_out), nn.SiLU(), nn.Conv2d(n_out, n_out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(avg_pool2d(x, 2)) + self.second(self.first(x))
        return out

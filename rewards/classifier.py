"""Which mechanism of action (MoA) does an image show? B batch, C channels, H, W pixels, F features, M MoAs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from cellenv.checkpoints import load_state, load_weights, save_weights
from cellenv.checks import check_pixels
from rewards.segmentation.protocol import CHANNELS

ASSETS = Path(__file__).parent / "assets"


class Classifier(nn.Module, ABC):
    """Images to maps (the trunk), maps to features (`pool`), features to logits (a linear head).

    moas: names; position is the id.
    size: (C, H, W) of the images. channels: their names, in order.
    temperature: logits are divided by it, so that softmax(logits) is calibrated; 1 until it is fitted.
    """

    shipped: ClassVar[Path]  # the weights of the embedded world

    def __init__(
        self, trunk: nn.Module, n_features: int, moas: Sequence[str], size: Sequence[int], channels: Sequence[str]
    ):
        super().__init__()
        self.moas, self.size, self.channels = tuple(moas), tuple(size), tuple(channels)
        if not self.moas:
            raise ValueError("need mechanisms of action: a column of the image table that names them (BBBC021: ANNOT)")
        if len(self.channels) != self.size[0]:
            raise ValueError(f"need a name for each of {self.size[0]} channels, got {self.channels}")
        self.trunk, self.head = trunk, nn.Linear(n_features, len(self.moas))
        self.register_buffer("temperature", torch.ones(()))
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    @abstractmethod
    def pool(self, maps: Tensor) -> Tensor:
        """What the trunk gives, (B, ., h, w) -> (B, F)."""

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, F), what the head sees."""
        if images.shape[1:] != self.size:
            raise ValueError(f"need images of shape (B, {', '.join(map(str, self.size))}), got {tuple(images.shape)}")
        check_pixels(images, "a classifier")
        return self.pool(self.trunk(images))

    def forward(self, images: Tensor) -> Tensor:
        """Calibrated logits, (B, M)."""
        return self.head(self.features(images)) / self.temperature

    def save_pretrained(self, path: str | Path, training: Mapping[str, Any] | None = None) -> None:
        """Write weights and what rebuilds the model; `training` records how they came about (command, seed, scores)."""
        config = {"model": type(self).__name__, "moas": self.moas, "size": self.size, "channels": self.channels}
        save_weights(path, self.state_dict(), config | {"training": dict(training or {})})

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> Self:
        """The classifier saved there, or the embedded world's, ready to score."""
        path = cls.shipped if path is None else path
        config, state_dict = load_weights(path)
        if config.get("model") != cls.__name__:
            raise ValueError(f"{path} holds a {config.get('model')}, need a {cls.__name__}")
        model = cls(config["moas"], size=config["size"], channels=config["channels"])
        load_state(model, state_dict, path)
        return model.eval()


class MoAClassifier(Classifier):
    """The rewarding classifier: a small residual network on the image folded 2 x 2 into its channels; F = 96 means."""

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
        return maps.mean((2, 3))


class Residual(nn.Module):
    """Halve height and width: W pool(x) + two normalised convolutions of x."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.skip = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.first = nn.Sequential(nn.GroupNorm(8, n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, stride=2, padding=1))
        self.second = nn.Sequential(nn.GroupNorm(8, n_out), nn.SiLU(), nn.Conv2d(n_out, n_out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(avg_pool2d(x, 2)) + self.second(self.first(x))

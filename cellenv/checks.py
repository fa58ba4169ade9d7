"""Input validation. Every check raises ValueError with what was needed and what came."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDING = 1e-3  # an eighth of a grey level: how far rounding may take a pixel beyond -1 or 1


def check_images(images: Tensor, size: Sequence[int], name: str) -> None:
    """Raise ValueError unless images are (..., C, H, W) of this size, float, finite and within [-1, 1]."""
    if images.ndim < 3 or tuple(images.shape[-3:]) != tuple(size):
        raise ValueError(f"{name} needs images of (channels, height, width) {tuple(size)}; got {tuple(images.shape)}")
    check_pixels(images, name)


def check_pixels(images: Tensor, name: str) -> None:
    """Raise ValueError unless images, of any shape, are float, finite and within [-1, 1] up to rounding."""
    if not images.is_floating_point():
        raise ValueError(f"{name} needs floating-point values in [-1, 1]; got {images.dtype} (0 to 255: x / 127.5 - 1)")
    if not images.numel():
        return
    low, high = torch.stack(images.detach().aminmax()).tolist()  # one nan makes both nan
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = (~images.isfinite()).nonzero()
        where = f", the first in image {int(bad[0, 0])}" if images.ndim == 4 else ""
        raise ValueError(
            f"{name} needs finite values in [-1, 1]; {len(bad)} of {images.numel()} are nan or infinite{where}"
        )
    if max(-low, high) > 1 + ROUNDING:
        raise ValueError(f"{name} needs values in [-1, 1]; got {low:.4g} to {high:.4g}: clamp or rescale the images")


def check_rows(values: Tensor, shape: Sequence[int], name: str) -> None:
    """Raise ValueError unless values have this shape and are finite."""
    if tuple(values.shape) != tuple(shape):
        raise ValueError(f"{name} needs shape {tuple(shape)}; got {tuple(values.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"{name} needs finite values; {int((~values.isfinite()).sum())} are nan or infinite")


def check_ids(ids: Tensor, names: Sequence[str], name: str) -> None:
    """Raise ValueError unless every id is an index into names."""
    bad = ids[(ids < 0) | (ids >= len(names))]
    if len(bad):
        known = f"0 to {len(names) - 1}, for {names[0]!r} to {names[-1]!r}"
        raise ValueError(f"{name} needs {known}; got {bad[0]}")

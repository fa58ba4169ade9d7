"""Checks of what comes in from outside. Each error says what was needed and what came."""

import math
from collections.abc import Sequence

from torch import Tensor


def check_images(images: Tensor, size: Sequence[int], name: str) -> None:
    """Raise ValueError unless images are (..., C, H, W) of this size, floating, finite and within [-1, 1]."""
    if images.ndim < 3 or tuple(images.shape[-3:]) != tuple(size):
        raise ValueError(f"{name} needs images of (channels, height, width) {tuple(size)}; got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"{name} needs floating-point values in [-1, 1]; got {images.dtype}")
    if not images.numel():
        return
    low, high = (bound.item() for bound in images.detach().aminmax())  # one nan makes both nan
    if not (math.isfinite(low) and math.isfinite(high)):
        strange = int((~images.isfinite()).sum())
        raise ValueError(f"{name} needs finite values in [-1, 1]; {strange} of {images.numel()} are nan or infinite")
    if low < -1 or high > 1:
        raise ValueError(f"{name} needs values in [-1, 1]; got {low:.4g} to {high:.4g} (from uint8: x / 127.5 - 1)")


def check_rows(values: Tensor, shape: Sequence[int], name: str) -> None:
    """Raise ValueError unless values have this shape and are finite."""
    if tuple(values.shape) != tuple(shape):
        raise ValueError(f"{name} needs shape {tuple(shape)}; got {tuple(values.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"{name} needs finite values; {int((~values.isfinite()).sum())} are nan or infinite")


def check_ids(ids: Tensor, names: Sequence[str], name: str) -> None:
    """Raise ValueError unless each id is the place of a name."""
    strange = ids[(ids < 0) | (ids >= len(names))]
    if len(strange):
        known = f"0 to {len(names) - 1}, for {names[0]!r} to {names[-1]!r}"
        raise ValueError(f"{name} needs {known}; got {strange[0]}")

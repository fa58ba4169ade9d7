"""Atomic file writes: a file is complete, or the old one stays."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellenv.pictures import png
from cellenv.weights_io import write_atomically


def write_whole(path: str | Path, content: bytes) -> None:
    """Write content to path atomically, creating its folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def save_png(picture: NDArray[np.uint8], path: str | Path) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, atomically."""
    write_whole(path, png(picture))

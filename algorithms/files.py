"""Files that are whole or absent."""

from pathlib import Path

import numpy as np

from cellenv.checkpoints import write_atomically
from cellenv.pictures import png


def write_whole(path: str | Path, content: bytes) -> None:
    """Put content under path, and make its folder; a stop at any moment leaves the old file, or none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def save_png(picture: np.ndarray, path: str | Path) -> None:
    """Write a picture (H, W, 3) uint8 as PNG: a whole file or none."""
    write_whole(path, png(picture))

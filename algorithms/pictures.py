"""Pictures of cells in files; how they are drawn stands in `cellenv.pictures`."""

from pathlib import Path

import numpy as np

from algorithms.files import write_whole
from cellenv.pictures import composite, enlarge, grid, inner_edge, outlines, png

__all__ = ["composite", "enlarge", "grid", "inner_edge", "outlines", "png", "save_png"]


def save_png(picture: np.ndarray, path: str | Path) -> None:
    """Write a picture (H, W, 3) uint8 as PNG: a whole file or none."""
    write_whole(path, png(picture))

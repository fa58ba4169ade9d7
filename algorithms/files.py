"""Atomic file writes: a file is complete, or the old one stays."""

import math
import os
import shutil
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


def check_writable(path: str | Path, *, folder: bool = False) -> None:
    """Check that a file, or a folder, can be made or written here, before work is spent on it; makes nothing.

    Raises:
        OSError: the nearest folder that exists cannot be written, is a file, or its disk is full; names both.
    """
    there = nearest(path)
    if (folder or there != Path(path).absolute()) and not there.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {there} is a file; give another folder")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{path} cannot be written: {there} is read-only; give another folder")
    if free_space(there) == 0:
        raise OSError(f"{path} cannot be written: the disk of {there} is full; free some of it, or give another folder")


def free_space(path: str | Path) -> float:
    """Bytes that are left on the disk of a path, which need not be there; infinite where the system does not say."""
    disk = shutil.disk_usage(nearest(path))
    return disk.free if disk.total else math.inf


def nearest(path: str | Path) -> Path:
    """The path, or the nearest of its parents that exists."""
    return next(parent for parent in (Path(path).absolute(), *Path(path).absolute().parents) if parent.exists())


def save_png(picture: NDArray[np.uint8], path: str | Path) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, atomically."""
    write_whole(path, png(picture))

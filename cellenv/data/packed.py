"""The images of a table: a file each, or all of them in one file that is mapped into memory.

    CACHE/images.npy      (N, C, H, W) uint8
    CACHE/images.json     the state of the files that they were copied from; what could not be read

N images, n drawn, C, H, W image. A place is the number of an image in the table.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cellenv.checkpoints import replacing, write_atomically

SPOTS = 32  # images that are compared with their files when a packed copy is opened


class ImageFiles:
    """Images of (H, W, C) uint8, one .npy file each, read when asked for.

    keys: their names, for errors. file: key -> place in the folder. channels: C.
    """

    def __init__(self, root: Path, keys: Sequence[str], file: Callable[[str], str], channels: int):
        self.root, self.keys, self.file, self.channels = root, keys, file, channels

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the first image that can be read; all others must agree."""
        errors = []
        for place in range(len(self.keys)):
            try:
                return self._load(place).shape
            except (ValueError, FileNotFoundError) as error:
                errors.append(error)
        raise errors[0]

    def read(self, place: int) -> np.ndarray:
        """One image, (H, W, C)."""
        pixels = self._load(place)
        if pixels.shape != self.shape:
            raise ValueError(f"image {self.keys[place]} is {pixels.shape}, others are {self.shape}")
        return pixels

    def raw(self, places: Tensor) -> Tensor:
        """The images at these places, (n, C, H, W) uint8."""
        images = torch.empty(len(places), self.channels, *self.shape[:2], dtype=torch.uint8)
        for i, place in enumerate(places.tolist()):
            images[i] = torch.from_numpy(self.read(place)).permute(2, 0, 1)
        return images

    def check(self, place: int) -> None:
        """Raise unless the image can be read."""
        self.read(place)

    def state(self) -> str:
        """A digest of keys, file sizes and times of change: another one wherever a file was touched."""
        digest = hashlib.sha256()
        for key in self.keys:
            try:
                found = os.stat(f"{self.root}/{self.file(key)}")
                digest.update(f"{key} {found.st_size} {found.st_mtime_ns}\n".encode())
            except FileNotFoundError:
                digest.update(f"{key} missing\n".encode())
        return digest.hexdigest()

    def _load(self, place: int) -> np.ndarray:
        key = self.keys[place]
        file = self.root / self.file(key)
        try:
            pixels = np.load(file, allow_pickle=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"image {key} is listed in the table, but {file} is missing") from error
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"image {key}: {file} is damaged, need a .npy array: {error}") from error
        if pixels.ndim != 3 or pixels.shape[2] != self.channels or pixels.dtype != np.uint8:
            came = f"{pixels.dtype} {pixels.shape}"
            raise ValueError(f"image {key}: need uint8 (H, W, {self.channels}) in {file}, got {came}")
        return pixels


class PackedImages:
    """The packed copy of image files in a folder, made or made anew where it is absent, stale or damaged."""

    def __init__(self, files: ImageFiles, cache: Path):
        self.file, self.keys = cache / "images.npy", files.keys
        record = cache / "images.json"
        if (reason := _unusable(files, self.file, record)) is not None:
            if record.exists():
                warnings.warn(f"{cache}: {reason}; the images are packed anew")
            _pack(files, self.file, record)
        self.unreadable: dict[str, str] = json.loads(record.read_text())["unreadable"]
        self.shape = (*self.pixels.shape[2:], self.pixels.shape[1])

    @cached_property
    def pixels(self) -> np.ndarray:
        """(N, C, H, W) uint8, mapped into memory."""
        return np.load(self.file, mmap_mode="r")

    def raw(self, places: Tensor) -> Tensor:
        """The images at these places, (n, C, H, W) uint8."""
        return torch.from_numpy(self.pixels[places.numpy()])

    def check(self, place: int) -> None:
        """Raise unless the image could be read when it was packed."""
        if (fault := self.unreadable.get(self.keys[place])) is not None:
            raise ValueError(fault)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "pixels"}  # another process maps it anew


def _unusable(files: ImageFiles, file: Path, record: Path) -> str | None:
    """Why the packed copy cannot be used; None: it can."""
    try:
        about = json.loads(record.read_text())
        state, unreadable = about["state"], about["unreadable"]
        packed = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        return f"it holds no whole copy ({error!r})"
    if state != files.state():
        return f"files in {files.root} have changed since the copy was made"
    if len(packed) != len(files.keys) or packed.dtype != np.uint8:
        return f"need {len(files.keys)} images of uint8, it holds {len(packed)} of {packed.dtype}"
    for place in range(0, len(files.keys), max(1, len(files.keys) // SPOTS)):
        if files.keys[place] not in unreadable and not np.array_equal(
            packed[place], files.read(place).transpose(2, 0, 1)
        ):
            return f"image {files.keys[place]} is not what its file holds"
    return None


def _pack(files: ImageFiles, file: Path, record: Path) -> None:
    """Copy all images into one file, written aside and renamed; the record comes last."""
    state, unreadable = files.state(), {}  # the state before: a file that changes meanwhile makes the copy stale
    height, width, channels = files.shape
    shape = (len(files.keys), channels, height, width)
    blank = np.zeros(shape[1:], np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as aside, aside.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for place, key in enumerate(tqdm(files.keys, desc=f"pack {files.root.name}", unit="image")):
            try:
                pixels = files.read(place).transpose(2, 0, 1)
            except (ValueError, FileNotFoundError) as error:
                pixels, unreadable[key] = blank, str(error)
            stream.write(np.ascontiguousarray(pixels))
    write_atomically(record, json.dumps({"state": state, "unreadable": unreadable}, indent=2).encode())

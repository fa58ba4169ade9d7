"""Image stores: one .npy file per image, or a packed copy of all images in one memory-mapped file.

    CACHE/images.npy      (N, C, H, W) uint8
    CACHE/images.json     digest of the source files; errors of those that could not be read; checksums

N images, n drawn, C, H, W image. An index is the row of an image in the table.
"""

import hashlib
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cellenv.data.pixels import read_npy
from cellenv.json_io import dump_json, read_json
from cellenv.weights_io import atomic_replace, write_atomically

SPOT_CHECKS = 32  # images that are looked at when a folder, or a packed copy of it, is opened

BLOCK = 64  # packed images that share a checksum


@dataclass(frozen=True, kw_only=True)
class PackedRecord:
    """What images.json holds."""

    state: str  # of the source files, see `ImageFiles.state`
    unreadable: dict[str, str]  # sample key -> error
    checksums: tuple[int, ...]  # CRC-32 of each `BLOCK` images


class ImageFiles:
    """Images (H, W, C) uint8 in one .npy file each, read on access.

    keys: sample keys. file: key -> path in the folder. channels: C.

    A missing file raises FileNotFoundError; a damaged file, another dtype or another shape raises ValueError.
    """

    def __init__(self, root: Path, keys: Sequence[str], file: Callable[[str], str], channels: int):
        self.root, self.keys, self.file, self.channels = root, keys, file, channels

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of most of `SPOT_CHECKS` images, spread over all; the others must have it."""
        found: Counter[tuple[int, ...]] = Counter()
        errors: list[Exception] = []
        spread = range(0, len(self.keys), max(1, len(self.keys) // SPOT_CHECKS))
        for index in chain(spread, range(len(self.keys))):
            if found and index not in spread:
                break
            try:
                found[self._load(index).shape] += 1
            except (ValueError, FileNotFoundError) as error:
                errors.append(error)
        if not found:
            raise errors[0]
        (height, width, channels), _ = found.most_common(1)[0]
        return height, width, channels

    def read(self, index: int) -> NDArray[np.uint8]:
        """One image, (H, W, C)."""
        pixels = self._load(index)
        if pixels.shape != self.shape:
            raise ValueError(f"image {self.keys[index]} is {pixels.shape}, others are {self.shape}")
        return pixels

    def raw(self, indices: Tensor) -> Tensor:
        """Images (n, C, H, W) uint8."""
        images = torch.empty(len(indices), self.channels, *self.shape[:2], dtype=torch.uint8)
        for i, index in enumerate(indices.tolist()):
            images[i] = torch.from_numpy(self.read(index)).permute(2, 0, 1)
        return images

    def check(self, index: int) -> None:
        """Raise unless the image can be read."""
        self.read(index)

    def state(self) -> str:
        """Digest of keys, file sizes and modification times, to detect changed files."""
        digest = hashlib.sha256()
        for key in self.keys:
            try:
                found = os.stat(f"{self.root}/{self.file(key)}")
                digest.update(f"{key} {found.st_size} {found.st_mtime_ns}\n".encode())
            except (OSError, ValueError):  # none, or one of a name that no file can have
                digest.update(f"{key} missing\n".encode())
        return digest.hexdigest()

    def _load(self, index: int) -> NDArray[np.uint8]:
        key = self.keys[index]
        file = self.root / self.file(key)
        try:
            return read_npy(file, self.channels)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"image {key} is listed in the table, but {file} is missing") from error
        except ValueError as error:
            raise ValueError(f"image {key}: {error}") from error


class PackedImages:
    """Packed copy of image files in a folder; it is (re)made if absent, stale or damaged where the start looks at it.

    Each block of images is compared with its checksum when it is read for the first time; one that differs raises.
    """

    def __init__(self, files: ImageFiles, cache: Path):
        self.file, self.keys = cache / "images.npy", files.keys
        record_file = cache / "images.json"
        if (reason := _unusable(files, self.file, record_file)) is not None:
            if record_file.exists():
                warnings.warn(f"{cache}: {reason}; the images are packed anew")
            _pack(files, self.file, record_file)
        self.record = read_json(record_file, PackedRecord)
        _, channels, height, width = self.pixels.shape
        self.shape = height, width, channels

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """(N, C, H, W) uint8, memory-mapped."""
        pixels: NDArray[np.uint8] = np.load(self.file, mmap_mode="r")
        return pixels

    @cached_property
    def _unchecked(self) -> set[int]:
        """Blocks that this process has not read yet."""
        return set(range(len(self.record.checksums)))

    def raw(self, indices: Tensor) -> Tensor:
        """Images (n, C, H, W) uint8.

        Raises:
            ValueError: a block of the copy has changed since it was made.
        """
        for block in self._unchecked & set((indices // BLOCK).tolist()):
            images = self.pixels[block * BLOCK : (block + 1) * BLOCK]
            if zlib.crc32(images.data) != self.record.checksums[block]:
                place = f"images {block * BLOCK} to {block * BLOCK + len(images) - 1}"
                raise ValueError(
                    f"{self.file} is damaged in {place}: remove it, and it is made anew from the image files"
                )
            self._unchecked.remove(block)
        return torch.from_numpy(self.pixels[indices.numpy()])

    def check(self, index: int) -> None:
        """Raise ValueError if the image could not be read when it was packed."""
        if (error := self.record.unreadable.get(self.keys[index])) is not None:
            raise ValueError(error)

    def __getstate__(self) -> dict[str, Any]:
        """State without the pixels, which another process maps, and checks, again."""
        return {name: value for name, value in vars(self).items() if name not in ("pixels", "_unchecked")}


def _unusable(files: ImageFiles, file: Path, record: Path) -> str | None:
    """Reason why the packed copy cannot be used, None if it can."""
    try:
        about = read_json(record, PackedRecord)
        packed = np.load(file, mmap_mode="r", allow_pickle=False)
        blocks = -(-len(packed) // BLOCK)
    except Exception as error:  # the header of a damaged .npy raises whatever its parser does
        return f"it holds no whole copy ({error!r:.200})"
    if about.state != files.state():
        return f"files in {files.root} have changed since the copy was made"
    if len(packed) != len(files.keys) or packed.dtype != np.uint8 or packed.ndim != 4:
        return f"need {len(files.keys)} images of uint8, it holds {len(packed)} of {packed.dtype}"
    if len(about.checksums) != blocks:
        return f"need {blocks} checksums, it has {len(about.checksums)}"
    for index in range(0, len(files.keys), max(1, len(files.keys) // SPOT_CHECKS)):
        key = files.keys[index]
        if key not in about.unreadable and not np.array_equal(packed[index], files.read(index).transpose(2, 0, 1)):
            return f"image {key} is not what its file holds"
    return None


def _pack(files: ImageFiles, file: Path, record: Path) -> None:
    """Copy all images into one file, atomically; the record is written last."""
    state = files.state()  # taken before copying, so that a file that changes meanwhile makes the copy stale
    unreadable: dict[str, str] = {}
    checksums: list[int] = []
    height, width, channels = files.shape
    shape = (len(files.keys), channels, height, width)
    blank = np.zeros(shape[1:], np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(file) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for index, key in enumerate(tqdm(files.keys, desc=f"pack {files.root.name}", unit="image")):
            try:
                pixels = files.read(index).transpose(2, 0, 1)
            except (ValueError, FileNotFoundError) as error:
                pixels, unreadable[key] = blank, str(error)
            content = pixels.tobytes()
            stream.write(content)
            if index % BLOCK == 0:
                checksums.append(0)
            checksums[-1] = zlib.crc32(content, checksums[-1])
    about = PackedRecord(state=state, unreadable=unreadable, checksums=tuple(checksums))
    write_atomically(record, dump_json(about))

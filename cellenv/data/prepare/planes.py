"""One stain of a field, read from TIFF, OME-TIFF or PNG: only the plane that is asked for.

C stains, H, W pixels.
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import PHOTOMETRIC, TiffFile

from cellenv.data.prepare.fields import Plane

Pixels = NDArray[np.float32]

TYPES = "uint8, uint16 or float"
MOST_VALUES = 16_384**2  # of a page; a small file can claim any number


def read_plane(plane: Plane) -> Pixels:
    """Grey values of a plane, (H, W) float32, as they are in the file: 0 to 255, 0 to 65535, or any float.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the file is damaged, of another kind or too large, or has another number of planes than `plane`
            needs.
    """
    if not plane.file.is_file():
        raise FileNotFoundError(f"{plane.file} is missing")
    try:
        pixels = _read_png(plane) if plane.file.suffix.lower() == ".png" else _read_tiff(plane)
    except ValueError as error:
        raise ValueError(f"{plane.file}: {error}") from error
    except Exception as error:  # tifffile and Pillow raise what their decoders do, SyntaxError among them
        raise ValueError(f"{plane.file} is damaged, need a TIFF or PNG: {error!r:.300}") from error
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"{plane.file} is damaged, need pixels (H, W); got {pixels.shape}")
    if pixels.dtype not in (np.uint8, np.uint16) and pixels.dtype.kind != "f":
        raise ValueError(f"{plane.file}: need pixels of {TYPES}; got {pixels.dtype}")
    pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise ValueError(f"{plane.file} holds nan or inf")
    return pixels


def _read_tiff(plane: Plane) -> NDArray[Any]:
    """The plane of a TIFF: a page, or for a page of several samples one of these."""
    with TiffFile(plane.file) as tiff:
        largest = max(tiff.series, key=lambda one: one.keyframe.imagelength * one.keyframe.imagewidth)
        series = [one for one in tiff.series if one.shape == largest.shape]  # without thumbnails
        axes, shape = series[0].axes, series[0].shape
        sizes = {axis: size for axis, size in zip(axes, shape) if axis not in "YX" and size > 1}
        if len(sizes) > 1 and not set(sizes) <= {"C", "S"}:
            raise ValueError(f"need one image of several channels; it has planes along {', '.join(sizes)}")
        _check_index(plane, len(series) * prod(sizes.values()))
        pages = [page for one in series for page in one.pages]
        samples = sizes.get("S", 1)
        page = pages[(plane.number or 0) // samples]
        if page is None:
            raise ValueError(f"plane {plane.number} is not stored")
        pixels = _decode(plane.file, page)
    if samples > 1:  # colours, or channels side by side
        pixels = np.moveaxis(pixels, -1, 0) if pixels.shape[-1] == samples else pixels
        return pixels[(plane.number or 0) % samples]
    return pixels.reshape(pixels.shape[-2:])


def _decode(file: Path, page: Any) -> NDArray[Any]:
    """Pixels of a page as stored; Pillow decodes what tifffile leaves to a further package, such as LZW."""
    if prod(page.shape) > MOST_VALUES:
        raise ValueError(f"need a page of up to {MOST_VALUES} values; it has {' x '.join(map(str, page.shape))}")
    try:
        pixels: NDArray[Any] = page.asarray()
        return pixels
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    with Image.open(file, formats=["TIFF"]) as image:
        image.seek(page.index)
        pixels = np.asarray(image)
    inverted = page.photometric == PHOTOMETRIC.MINISWHITE and image.mode == "L"  # by Pillow, in this mode alone
    return 255 - pixels if inverted else pixels


def _read_png(plane: Plane) -> NDArray[Any]:
    """The plane of a PNG; 16-bit grey comes as such."""
    with Image.open(plane.file, formats=["PNG"]) as image:
        if image.mode == "P":
            raise ValueError("need grey values, it has numbers of colours in a palette: save it as grey")
        pixels: NDArray[Any] = np.asarray(image)
    if pixels.dtype == np.int32:  # 16-bit grey, as older versions of Pillow give it
        pixels = pixels.astype(np.uint16)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    _check_index(plane, pixels.shape[2])
    return pixels[..., plane.number or 0]


def _check_index(plane: Plane, count: int) -> None:
    """Raise ValueError unless the plane is one of the file's `count`; a file of several needs an index."""
    if plane.number is None and count > 1:
        raise ValueError(
            f"need one grey plane in the file of a stain, it has {count}: save it as grey; or if it holds all stains,"
            " name it without {channel} or {stain}, and its planes with --stains, such as DNA=0"
        )
    if plane.number is not None and plane.number >= count:
        raise ValueError(f"need plane {plane.number}, counted from 0; it has {count}")


def read_planes(planes: Sequence[Plane]) -> Pixels:
    """Grey values of all stains of a field, (C, H, W) float32.

    Raises:
        FileNotFoundError, ValueError: as `read_plane`, and if the stains differ in size.
    """
    stains = [read_plane(plane) for plane in planes]
    if len({pixels.shape for pixels in stains}) > 1:
        came = ", ".join(f"{plane.file.name} {pixels.shape}" for plane, pixels in zip(planes, stains))
        raise ValueError(f"the stains of a field need one size; got {came} in {planes[0].file.parent}")
    return np.stack(stains)

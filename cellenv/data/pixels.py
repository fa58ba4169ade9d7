"""One stored image, uint8 (H, W, C), in a .npy or .png file. No pixel is read before the header fits. C channels."""

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(file: Path, channels: int) -> NDArray[np.uint8]:
    """The image in a file, (H, W, C).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no .npy, or has another dtype or number of channels; names the file.
    """
    with file.open("rb") as stream:
        try:
            shape, fortran_order, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
        except Exception as error:  # a header is Python text, and a damaged one raises whatever its parser does
            raise ValueError(f"{file} is damaged, need a .npy array: {error}") from error
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != channels or 0 in shape:
            hint = "; --channels names the stains in their order" if len(shape) == 3 and shape[2] != channels else ""
            raise ValueError(f"{file}: need uint8 (H, W, {channels}), got {dtype!s:.50} {shape!s:.50}{hint}")
        if (size := os.fstat(stream.fileno()).st_size - stream.tell()) != math.prod(shape):
            raise ValueError(f"{file} is damaged: need {math.prod(shape)} bytes for {shape}, it has {size}")
        pixels: NDArray[np.uint8] = np.fromfile(stream, np.uint8)
    return pixels.reshape(shape, order="F" if fortran_order else "C")


def read_png(file: Path, width: int, height: int) -> NDArray[np.uint8]:
    """The picture in a file, (H, W, 3).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no PNG, or has another size or no three channels of 8 bits; names the file.
    """
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            size, mode = picture.size, picture.mode
            if size == (width, height) and mode == "RGB":
                return np.array(picture)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises what its decoders do, SyntaxError and struct.error among them
        raise ValueError(f"{file} is damaged, need a PNG: {error}") from error
    raise ValueError(f"{file}: need {width} x {height} px of RGB, got {size[0]} x {size[1]} of {mode}")

"""Fuzzed files that `prepare` reads: planes of a microscope, the order of stains, its own notes in the folder."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given
from PIL import Image

from cellenv.data.prepare.fields import Plane
from cellenv.data.prepare.planes import read_plane
from cellenv.data.stains import parse_stains
from tests.fuzz.damage import damaged_bytes, damaged_json, fuzz, refuse_or_read

STACK = (np.arange(2 * 10 * 12).reshape(2, 10, 12) * 251).astype(np.uint16)
WRITERS = {
    "pages.ome.tif": lambda file: tifffile.imwrite(file, STACK, photometric="minisblack", metadata={"axes": "CYX"}),
    "imagej.tif": lambda file: tifffile.imwrite(file, STACK, imagej=True, metadata={"axes": "CYX"}),
    "lzw.tif": lambda file: Image.fromarray(STACK[0]).save(
        file, compression="tiff_lzw", save_all=True, append_images=[Image.fromarray(STACK[1])]
    ),
    "grey.png": lambda file: Image.fromarray(STACK[0]).save(file),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_plane(tmp_path, name):
    file = tmp_path / name
    WRITERS[name](file)
    sound, number = file.read_bytes(), 0 if name.endswith("png") else 1
    read_plane(Plane(file, number))

    @fuzz
    @given(damaged_bytes(sound) | damaged_bytes(sound[:200]))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        found = refuse_or_read(lambda: read_plane(Plane(file, number)), file)
        assert found is None or (found.dtype, found.ndim) == (np.float32, 2)

    check()


@pytest.mark.parametrize("content", [["DNA", "RNA", "AGP"], {"channel_mapping": {"DNA": 5, "RNA": 3}}])
def test_a_damaged_order_of_stains(tmp_path, content):
    file = tmp_path / "stains.json"

    @fuzz
    @given(damaged_json(content) | damaged_bytes(json.dumps(content).encode()))
    def check(damaged: bytes) -> None:
        file.write_bytes(damaged)
        refuse_or_read(lambda: parse_stains(str(file)), file)

    check()

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellenv.data.prepare.fields import Plane
from cellenv.data.prepare.planes import read_plane, read_planes

STACK = (np.arange(3 * 20 * 24).reshape(3, 20, 24) * 37 % 60000).astype(np.uint16)


def separate_pages(file):
    with tifffile.TiffWriter(file) as writer:
        for pixels in STACK:
            writer.write(pixels)


WRITERS = {
    "pages.tif": lambda file: tifffile.imwrite(file, STACK, photometric="minisblack"),
    "separate.tif": separate_pages,
    "stack.ome.tif": lambda file: tifffile.imwrite(file, STACK, photometric="minisblack", metadata={"axes": "CYX"}),
    "imagej.tif": lambda file: tifffile.imwrite(file, STACK, imagej=True, metadata={"axes": "CYX"}),
    "samples.tif": lambda file: tifffile.imwrite(file, np.moveaxis(STACK, 0, -1), photometric="rgb"),
    "planar.tif": lambda file: tifffile.imwrite(file, STACK, photometric="rgb", planarconfig="separate"),
    "lzw.tif": lambda file: Image.fromarray(STACK[0]).save(
        file, compression="tiff_lzw", save_all=True, append_images=[Image.fromarray(pixels) for pixels in STACK[1:]]
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_one_plane_of_several(name, tmp_path):
    WRITERS[name](tmp_path / name)
    pixels = read_planes([Plane(tmp_path / name, 2), Plane(tmp_path / name, 0)])
    assert pixels.dtype == np.float32 and np.array_equal(pixels, STACK[[2, 0]])
    with pytest.raises(ValueError, match=f"{name}: need one grey plane .* it has 3"):
        read_plane(Plane(tmp_path / name, None))
    with pytest.raises(ValueError, match="need plane 3, counted from 0; it has 3"):
        read_plane(Plane(tmp_path / name, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_are_those_of_the_file(dtype, tmp_path):
    pixels = (STACK[0] / 250).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    assert np.array_equal(read_plane(Plane(tmp_path / "a.tif", None)), pixels)
    if dtype != np.float32:
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert np.array_equal(read_plane(Plane(tmp_path / "a.png", None)), pixels)


def test_what_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, STACK[0])
    whole = file.read_bytes()
    for content in (whole[:400], b"", b"II*\0hello", b"text"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tif"):
            read_plane(Plane(file, None))
    tifffile.imwrite(file, STACK[0].astype(np.int32))
    with pytest.raises(ValueError, match="uint8, uint16 or float; got int32"):
        read_plane(Plane(file, None))
    tifffile.imwrite(file, np.full((4, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="holds nan"):
        read_plane(Plane(file, None))
    with pytest.raises(FileNotFoundError, match=r"b\.tif is missing"):
        read_plane(Plane(tmp_path / "b.tif", None))
    tifffile.imwrite(file, np.stack([STACK, STACK]), photometric="minisblack", metadata={"axes": "ZCYX"}, ome=True)
    with pytest.raises(ValueError, match="planes along Z, C"):
        read_plane(Plane(file, 0))


def huge(file, side, tile=1024):
    """A small TIFF of side x side pixels: all its tiles are one."""
    content, tiles = zlib.compress(bytes(2 * tile**2)), (side // tile) ** 2
    content += bytes(len(content) % 2)
    offsets, counts, directory = (8 + len(content) + 4 * tiles * k for k in range(3))
    tags = {256: side, 257: side, 258: 16, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: offsets, 325: counts}
    with file.open("wb") as stream:
        stream.write(struct.pack("<2sHI", b"II", 42, directory) + content)
        stream.write(struct.pack(f"<{2 * tiles}I", *[8] * tiles, *[len(content)] * tiles))
        stream.write(struct.pack("<H", len(tags)))
        for tag, value in tags.items():
            stream.write(struct.pack("<HHII", tag, 4, tiles if tag in (324, 325) else 1, value))
        stream.write(bytes(4))


def test_a_small_file_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    huge(tmp_path / "a.tif", 2048)
    assert read_plane(Plane(tmp_path / "a.tif", None)).shape == (2048, 2048)
    huge(tmp_path / "a.tif", 40960)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)  # nothing is decoded
    with pytest.raises(ValueError, match=r"a\.tif: need a page of up to 268435456 values; it has 40960 x 40960"):
        read_plane(Plane(tmp_path / "a.tif", None))


def test_a_thumbnail_may_come_first(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for pixels in (STACK[0, ::4, ::4], *STACK):
            writer.write(pixels)
    assert np.array_equal(read_plane(Plane(tmp_path / "a.tif", 1)), STACK[1])


def lacks_codecs(page):
    raise ValueError("requires the 'imagecodecs' package")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_those_stored_whatever_they_are_shown_as(dtype, tmp_path, monkeypatch):
    pixels = (STACK[0] / 250).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    assert np.array_equal(read_plane(Plane(tmp_path / "a.tif", None)), pixels)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lacks_codecs)
    assert np.array_equal(read_plane(Plane(tmp_path / "a.tif", None)), pixels)


def test_a_picture_in_colours_is_to_be_saved_as_grey(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: need one grey plane .* it has 3: save it as grey"):
        read_plane(Plane(tmp_path / "a.png", None))


def test_a_png_with_a_palette_is_to_be_saved_as_grey(tmp_path):
    Image.fromarray((STACK[0] / 250).astype(np.uint8)).quantize(16).save(tmp_path / "a.png")
    for number in (None, 0):
        with pytest.raises(ValueError, match=r"a\.png: need grey values, .*palette: save it as grey"):
            read_plane(Plane(tmp_path / "a.png", number))


def test_a_png_is_one_and_whole(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(STACK[0]).save(file)
    damaged = file.read_bytes().replace(b"IDAT", b"\x87T\tF")  # Pillow raises SyntaxError
    Image.fromarray(STACK[0].astype(np.uint8)).save(tmp_path / "a.jpg")
    for content in (damaged, (tmp_path / "a.jpg").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png is damaged, need a TIFF or PNG"):
            read_plane(Plane(file, None))


def test_stains_of_two_sizes_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    tifffile.imwrite(tmp_path / "b.tif", STACK[0, :4])
    with pytest.raises(ValueError, match=r"one size; got a.tif \(20, 24\), b.tif \(4, 24\)"):
        read_planes([Plane(tmp_path / "a.tif", None), Plane(tmp_path / "b.tif", None)])

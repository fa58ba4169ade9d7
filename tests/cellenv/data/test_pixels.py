import io

import numpy as np
import pytest

from cellenv.data.pixels import read_npy

PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def archive():
    content = io.BytesIO()
    np.savez(content, PIXELS)
    return content.getvalue()


def header(text):
    text = text.encode().ljust(118)
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_image_is_read_writable(tmp_path, order):
    np.save(tmp_path / "a.npy", np.asarray(PIXELS, order=order))
    pixels = read_npy(tmp_path / "a.npy", 3)
    assert np.array_equal(pixels, PIXELS) and pixels.flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(), "a.npy is damaged, need a .npy array"),
        (b"", "a.npy is damaged, need a .npy array"),
        (
            header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 3)}"),
            "need 3000000000000 bytes",
        ),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (4, 5, 3)}"), "got object"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 5, 3)}"), r"got uint8 \(0, 5, 3\)"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5, 5)}"), r"\(4, 5, 5\); --channels names"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -5, 3)}"), "a.npy"),
        (header("{'descr': [1], 'fortran_order': False, 'shape': (4, 5, 3)}"), "a.npy is damaged"),
        (header("(" * 100), "a.npy is damaged"),
        (header("__import__('os').abort()"), "a.npy is damaged"),
    ],
)
def test_anything_else_is_named(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_npy(tmp_path / "a.npy", 3)

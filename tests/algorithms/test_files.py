"""Atomic writes."""

import numpy as np
import pytest
from PIL import Image

from algorithms.files import save_png, write_whole


def test_a_failed_write_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_picture_is_read_back_as_it_was(tmp_path):
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    save_png(picture, tmp_path / "samples" / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "samples" / "a.png")), picture)

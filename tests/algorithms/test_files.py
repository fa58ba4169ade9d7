"""Atomic writes."""

import math
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from algorithms.files import check_writable, free_space, save_png, write_whole


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


def test_a_place_that_cannot_be_written_is_named_before_work_is_done(tmp_path, monkeypatch):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    check_writable(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match=f"{tmp_path}/file/run cannot be written: {tmp_path}/file is a file"):
        check_writable(tmp_path / "file" / "run")
    check_writable(tmp_path, folder=True)
    with pytest.raises(NotADirectoryError, match=f"{tmp_path}/file is a file; give another folder"):
        check_writable(tmp_path / "file", folder=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=f"run cannot be written: {tmp_path} is read-only"):
        check_writable(tmp_path / "run")


def test_a_full_disk_is_named_with_the_path(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"{tmp_path}/a.json cannot be written: .*No space left"):
        write_whole(tmp_path / "a.json", b"new")


def test_a_disk_that_is_full_is_refused_before_work_is_done_unless_its_size_is_unknown(tmp_path, monkeypatch):
    assert free_space(tmp_path / "not" / "there") > 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10, free=0))
    with pytest.raises(OSError, match=f"run cannot be written: the disk of {tmp_path} is full"):
        check_writable(tmp_path / "run")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=0, free=0))
    check_writable(tmp_path / "run")
    assert free_space(tmp_path) == math.inf

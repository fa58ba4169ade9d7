"""Fuzzed folders of images: tables, embeddings, images, packed copies, generated images."""

import csv
import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from algorithms.evaluation.image_folder import ImageFolder
from cellenv.data.imaging import ImagingCells
from cellenv.data.pixels import read_npy, read_png
from tests.cellenv.imaging_toys import ROWS, write_csv, write_folder
from tests.fuzz.damage import damaged_bytes, damaged_json, damaged_table, fuzz, refuse_or_read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells")
    write_folder(path)
    ImagingCells(path, cache=path / "cache")
    (path / "generated").mkdir()
    rows = [["sample_key", "compound", "source_key"], ["a", "taxol", ROWS[6][0]], ["b", "taxol", ROWS[6][0]]]
    write_csv(path / "generated" / "index.csv", rows)
    np.save(path / "generated" / "a.npy", np.zeros((4, 6, 3), np.uint8))
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path / "generated" / "b.png")
    return path


def use(data: ImagingCells) -> None:
    """Read all that was opened."""
    data.images(torch.arange(len(data)))
    if len(data.controls) and len(data.treated):
        data.draw_contexts(2, torch.Generator())


def open_cells(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that are left out, and copies made anew
        try:
            use(ImagingCells(folder, None, unseen=None, **options))
        except ValueError as error:
            if "holds no control" not in str(error):
                raise


def read_table(file):
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


@pytest.mark.parametrize("name", ["toy_df_all.csv", "emb_fp.csv"])
def test_damaged_tables(folder, name):
    file = folder / name
    sound, rows = file.read_bytes(), read_table(file)

    @fuzz
    @given(damaged_table(rows) | damaged_bytes(sound), st.booleans())
    def check(content: bytes, skip_bad: bool) -> None:
        file.write_bytes(content)
        refuse_or_read(lambda: open_cells(folder, skip_bad=skip_bad), folder, *(row[0] for row in ROWS))

    try:
        check()
    finally:
        file.write_bytes(sound)


@pytest.mark.parametrize("name", ["images.npy", "images.json"])
def test_a_damaged_packed_copy(folder, name):
    """It is refused or made anew: what is read is what the files hold."""
    file = folder / "cache" / name
    sound = {other: (folder / "cache" / other).read_bytes() for other in ("images.npy", "images.json")}
    record = json.loads(sound["images.json"])
    truth = ImagingCells(folder, None, unseen=None).raw(torch.arange(7))

    @fuzz
    @given(damaged_bytes(sound[name]) | (damaged_json(record) if name == "images.json" else st.nothing()))
    def check(content: bytes) -> None:
        for other, whole in sound.items():
            (folder / "cache" / other).write_bytes(whole)
        file.write_bytes(content)

        def read() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = ImagingCells(folder, None, unseen=None, cache=folder / "cache")
            assert torch.equal(data.raw(torch.arange(7)), truth)

        refuse_or_read(read, folder, *(row[0] for row in ROWS))

    check()


@pytest.mark.parametrize(
    ("name", "read"), [("a.npy", lambda file: read_npy(file, 3)), ("b.png", lambda file: read_png(file, 6, 4))]
)
def test_a_damaged_image(folder, tmp_path_factory, name, read):
    file = tmp_path_factory.mktemp("image") / name
    sound = (folder / "generated" / name).read_bytes()

    @fuzz
    @given(damaged_bytes(sound) | damaged_bytes(sound[:128]))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        found = refuse_or_read(lambda: read(file), file)
        assert found is None or (found.dtype, found.ndim) == (np.uint8, 3)

    check()


def test_a_damaged_folder_of_generated_images(folder):
    generated = folder / "generated"
    file, data = generated / "index.csv", ImagingCells(folder, "test")
    sound, rows = file.read_bytes(), read_table(file)

    @fuzz
    @given(damaged_table(rows) | damaged_bytes(sound))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        refuse_or_read(lambda: ImageFolder.read(generated, data), generated)

    try:
        check()
    finally:
        file.write_bytes(sound)

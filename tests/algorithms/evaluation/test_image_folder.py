"""Folders of generated images: what was drawn is read, in the order of the contexts; what is wrong is named by row."""

import csv
import shutil
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from algorithms.evaluation.held_out import held_out
from algorithms.evaluation.image_folder import (
    ImageFolder,
    check_new,
    context_ids,
    draw_references,
    write_images,
    write_index,
)
from cellenv.data.cells import CellData


class FewCells(CellData):
    """24 images of 4 x 5, compounds a and b in two plates, a compound that this split does not show."""

    channels = ("actin", "tubulin", "DNA")
    size = (3, 4, 5)
    compounds, moas = ("a", "b", "hidden"), ("one", "two")
    compound_moa = torch.tensor([0, 1, 1])

    def __init__(self):
        self.perturbation = torch.arange(24) % 3 - 1
        self.plate = torch.arange(24) // 12
        self.keys = tuple(f"key{row}" for row in range(24))
        self.conditions = torch.eye(3)

    def images(self, rows):
        return (rows / 24).reshape(-1, 1, 1, 1).expand(-1, *self.size).clone()


N, G = 6, 3


def write_folder(path, images, contexts, cells):
    """Images (n, G, C, H, W) of these contexts, and their table."""
    n, group_size = images.shape[:2]
    write_images(path, images.flatten(0, 1), torch.arange(n * group_size), group_size)
    write_index(path, contexts, group_size, cells)


@pytest.fixture
def cells():
    return FewCells()


@pytest.fixture
def contexts(cells):
    compounds, controls = torch.tensor([0, 1, 0, 0, 1, 1]), torch.tensor([0, 3, 6, 9, 3, 12])  # 1 and 4 are alike
    return cells.contexts_of(compounds, controls, torch.Generator()).set("control", controls)


@pytest.fixture
def drawn():
    levels = torch.randint(256, (N, G, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    return levels / 127.5 - 1


@pytest.fixture
def folder(cells, contexts, drawn, tmp_path):
    write_folder(tmp_path / "images", drawn, contexts, cells)
    return tmp_path / "images"


def table(folder) -> list[dict]:
    with (folder / "index.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def rewrite(folder, rows) -> None:
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ("sample_key", "compound", "source_key"))
        writer.writeheader()
        writer.writerows(rows)


def test_what_was_written_is_read_in_the_order_of_the_contexts(cells, contexts, drawn, folder):
    images = ImageFolder.read(folder, cells).match_contexts(contexts)
    torch.testing.assert_close(images, drawn, rtol=0, atol=1e-6)
    assert np.load(folder / "00000-00.npy").shape == (4, 5, 3)
    assert [table(folder)[G][name] for name in ("compound", "source_key")] == [
        cells.compounds[contexts["perturbation"][1]],
        cells.keys[contexts["control"][1]],
    ]


def test_the_order_of_contexts_in_the_table_does_not_matter(cells, contexts, drawn, folder):
    rows = table(folder)
    order = (5, 1, 3, 4, 0, 2)  # 1 and 4 are alike and keep their order, as do the draws of one context
    rewrite(folder, [rows[i * G + g] for i in order for g in range(G)])
    torch.testing.assert_close(ImageFolder.read(folder, cells).match_contexts(contexts), drawn, rtol=0, atol=1e-6)


def test_levels_are_the_nearest_and_stay_in_the_range(cells, contexts, tmp_path):
    drawn = torch.tensor([-1.5, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 1.5]).repeat(N)[:N].reshape(N, 1, 1, 1, 1)
    write_folder(tmp_path / "images", drawn.expand(N, 1, 3, 4, 5), contexts, cells)
    levels = [int(np.load(tmp_path / "images" / f"{i:05d}-00.npy").max()) for i in range(4)]
    assert levels == [0, 0, 1, 255]


def test_png_is_read_as_npy(cells, contexts, drawn, folder):
    for file in sorted(folder.glob("*.npy"))[::2]:
        Image.fromarray(np.load(file)).save(file.with_suffix(".png"))
        file.unlink()
    torch.testing.assert_close(ImageFolder.read(folder, cells).match_contexts(contexts), drawn, rtol=0, atol=1e-6)


def test_other_contexts_are_not_taken_for_these(cells, contexts, folder):
    read, rows = ImageFolder.read, table(folder)
    assert read(folder, cells).match_contexts(held_out(cells, N, 1)[0]) is None
    assert read(folder, cells).match_contexts(contexts[:-1]) is None
    rewrite(folder, rows[:-1])  # one sample short
    assert read(folder, cells).match_contexts(contexts) is None
    rewrite(folder, [row | {"compound": rows[-1]["compound"]} for row in rows])
    assert read(folder, cells).match_contexts(contexts) is None
    rewrite(folder, [row | {"source_key": rows[-1]["source_key"]} for row in rows])
    assert read(folder, cells).match_contexts(contexts) is None


def test_no_two_pairs_of_compound_and_control_are_confused():
    perturbation, control = torch.cartesian_prod(torch.arange(5), torch.arange(7)).unbind(1)
    assert len(context_ids(perturbation, control).unique()) == 35


def test_alone_the_images_stand_on_what_the_table_says(cells, drawn, folder):
    rows = table(folder)[:-G]  # without one context
    rewrite(folder, rows)
    images, contexts = ImageFolder.read(folder, cells).group_by_context(cells)
    assert images.shape == (N - 1, G, *cells.size)
    pair_of = {row["sample_key"]: (row["compound"], row["source_key"]) for row in rows}
    for group, compound, moa, x0 in zip(images, contexts["perturbation"], contexts["moa"], contexts["x0"], strict=True):
        for image in group:
            i, g = (drawn[: N - 1] - image).abs().flatten(2).amax(2).lt(1e-5).nonzero()[0].tolist()
            name, source = pair_of[f"{i:05d}-{g:02d}"]
            assert cells.compounds[compound] == name and cells.compound_moa[compound] == moa
            assert x0.equal(cells.images(torch.tensor([cells.keys.index(source)]))[0])


def test_pairs_of_uneven_number_stand_one_by_one(cells, folder):
    rewrite(folder, table(folder)[:-1])
    images, contexts = ImageFolder.read(folder, cells).group_by_context(cells)
    assert images.shape[:2] == (N * G - 1, 1) and len(contexts) == N * G - 1


def test_companions_are_real_images_of_the_compounds(cells):
    compounds = torch.tensor([1, 0, 1, 1, 0] + 9 * [1])
    rows = draw_references(compounds, cells, torch.Generator().manual_seed(0))
    assert cells.perturbation[rows].equal(compounds)
    times = Counter(rows[compounds == 1].tolist())
    assert len(times) == 8 and set(times.values()) == {1, 2}  # 12 wanted, 8 there
    assert len(set(rows[compounds == 0].tolist())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compound": "c"}, r"line 5 \(00001-00\): no held-out image shows 'c'; need one of a, b"),
        ({"compound": "hidden"}, r"line 5 .*no held-out image shows 'hidden'"),
        ({"source_key": "key99"}, r"line 5 .*held-out control as source_key; got 'key99'"),
        ({"source_key": "key1"}, r"line 5 .*held-out control as source_key; got 'key1'"),  # a treated one
        ({"source_key": ""}, r"line 5 .*a value for each of sample_key, compound, source_key"),
        ({"sample_key": "../00001-00"}, r"line 5 .*without slashes"),
        ({"sample_key": "00000-00"}, r"line 5 .*stands twice"),
        ({"sample_key": "none"}, r"line 5 \(none\): neither none.npy nor none.png"),
        (
            {"sample_key": "é" * 130},
            r"line 5 \(é{100}\): a sample_key names a file and has at most 251 bytes, this has 260",
        ),
    ],
)
def test_a_wrong_row_is_named(cells, folder, change, message):
    rows = table(folder)
    rows[3] |= change
    rewrite(folder, rows)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ImageFolder.read(folder, cells)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: np.save(file, np.zeros((5, 4, 3), np.uint8)), r"need uint8 \(4, 5, 3\), got \(5, 4, 3\)"),
        (lambda file: np.save(file, np.zeros((4, 5, 3), np.float32)), r"got float32 \(4, 5, 3\)"),
        (lambda file: file.write_bytes(file.read_bytes()[:-7]), "00001-00.(npy|png) is damaged"),
        (lambda file: file.rename(file.with_suffix(".png")), "00001-00.(npy|png) is damaged"),
        (lambda file: np.save(file, np.array([{}]), allow_pickle=True), "need uint8 .*got object"),
    ],
)
def test_a_wrong_image_is_named(cells, folder, spoil, message):
    spoil(folder / "00001-00.npy")
    with pytest.raises(ValueError, match=r"index.csv, line 5 \(00001-00\): .*" + message):
        ImageFolder.read(folder, cells)


def test_a_folder_that_the_processes_do_not_share_gets_no_table(cells, contexts, drawn, tmp_path):
    write_images(tmp_path, drawn[:3].flatten(0, 1), torch.arange(3 * G), G)  # another process wrote the rest elsewhere
    with pytest.raises(FileNotFoundError, match=r"lacks 00003-00.npy: need a folder that all processes share"):
        write_index(tmp_path, contexts, G, cells)
    assert not (tmp_path / "index.csv").exists()


def test_only_a_png_of_the_size_is_opened(folder, cells):
    npy, png = folder / "00001-00.npy", folder / "00001-00.png"
    picture = Image.fromarray(np.load(npy))
    npy.unlink()
    for changed, kind, message in [
        (picture, "bmp", "damaged, need a PNG"),
        (picture.convert("L"), "png", "5 x 4 of L"),
    ]:
        changed.save(png, format=kind)
        with pytest.raises(ValueError, match=message):
            ImageFolder.read(folder, cells)
    content = bytearray(png.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)  # width and height, and the checksum of the header
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    png.write_bytes(content)
    with pytest.raises(ValueError, match=r"00001-00\.png is damaged, need a PNG: Image size .* decompression bomb"):
        ImageFolder.read(folder, cells)


def test_a_wrong_table_is_refused(cells, folder):
    with pytest.raises(FileExistsError, match="holds images already"):
        check_new(folder)
    rewrite(folder, [])
    with pytest.raises(ValueError, match=r"index.csv lists no image"):
        ImageFolder.read(folder, cells)
    (folder / "index.csv").write_text("sample_key,compound\nx,a\n")
    with pytest.raises(ValueError, match=r"lacks the columns \['source_key'\]"):
        ImageFolder.read(folder, cells)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="need a table"):
        ImageFolder.read(folder, cells)

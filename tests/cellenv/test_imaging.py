import csv

import numpy as np
import pytest
import torch

from cellenv.data.imaging import ImagingCells

HEADER = ["", "SAMPLE_KEY", "BATCH", "PLATE", "CPD_NAME", "ANNOT", "STATE", "SPLIT"]
ROWS = [  # key, compound, MoA, state, split
    ("W1_10_a_0.0", "taxol", "Stab", "1", "train"),
    ("W1_11_b_1.0", "DMSO", "DMSO", "0", "train"),
    ("W1_10_c_2.0", "mevinolin/lovastatin", "Chol", "trt", "train"),
    ("W2_20_d_3.0", "docetaxel", "Stab", "1", "train"),
    ("W2_20_e_4.0", "DMSO", "DMSO", "control", "train"),
    ("W2_20_f_5.0", "taxol", "Stab", "1", "test"),
    ("W2_20_g_6.0", "DMSO", "DMSO", "0", "test"),
]


def write_table(folder, rows=ROWS):
    with (folder / "toy_df_all.csv").open("w", newline="") as stream:
        table = [(i, key, *key.split("_")[:2], *rest) for i, (key, *rest) in enumerate(rows)]
        csv.writer(stream).writerows([HEADER, *table])


def write_pixels(folder, key, pixels):
    week, plate, name = key.split("_", 2)
    (folder / week / plate).mkdir(parents=True, exist_ok=True)
    np.save(folder / week / plate / f"{name}.npy", pixels)


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path)
    for i, (key, *_) in enumerate(ROWS):
        pixels = np.full((4, 6, 3), 10 * i, np.uint8)
        pixels[..., 2] = 255
        pixels[0, 5, 0] = 7
        write_pixels(tmp_path, key, pixels)
    vectors = [["", "0", "1"], ["DMSO", 0, 0], ["taxol", 1, 2], ["docetaxel", 3, 4], ["mevinolin/lovastatin", 5, 6]]
    with (tmp_path / "emb_fp.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(vectors)
    return tmp_path


def test_train_leaves_unseen_compounds_out(folder):
    data = ImagingCells(folder)
    assert data.compounds == ("docetaxel", "mevinolin/lovastatin", "taxol")
    assert data.moas == ("Chol", "Stab")
    assert data.compound_moa.tolist() == [1, 0, 1]
    assert data.perturbation.tolist() == [2, -1, 1, -1]
    assert data.batch.tolist() == [0, 0, 0, 1]
    assert data.conditions.tolist() == [[3, 4], [5, 6], [1, 2]]
    assert data.size == (3, 4, 6)


@pytest.mark.parametrize(
    ("split", "unseen", "letters"),
    [
        ("train", None, "abcde"),
        ("train", True, "bde"),
        ("test", False, "fg"),
        ("test", True, "g"),
        (None, None, "abcdefg"),
    ],
)
def test_selection_keeps_ids(folder, split, unseen, letters):
    data = ImagingCells(folder, split, unseen=unseen)
    assert "".join(key.split("_")[2] for key in data.keys) == letters
    names = [data.compounds[i] if i >= 0 else "DMSO" for i in data.perturbation]
    assert names == [row[1] for row in ROWS if row[0].split("_")[2] in letters]


def test_images_map_bytes_to_unit_range_channels_first(folder):
    data = ImagingCells(folder, None, unseen=None)
    images = data.images(torch.tensor([5, 1]))
    assert images.shape == (2, 3, 4, 6)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images[:, 1], torch.tensor([50, 10]).reshape(2, 1, 1).expand(2, 4, 6) / 127.5 - 1)
    assert (images[:, data.channels.index("DNA")] == 1).all()
    torch.testing.assert_close(images[:, 0, 0, 5], torch.full((2,), 7 / 127.5 - 1))


def test_controls_come_from_the_pairing_column(folder):
    treated = torch.tensor([0] * 8)
    by_week = ImagingCells(folder).contexts(treated, torch.Generator().manual_seed(0))
    torch.testing.assert_close(by_week["x0"][:, 1], torch.full((8, 4, 6), 10 / 127.5 - 1))
    by_plate = ImagingCells(folder, pairing="PLATE")
    with pytest.raises(ValueError, match="no control"):
        by_plate.contexts(treated, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("W1_10", "taxol", "Stab", "1", "train"), "line 2.*WEEK_PLATE_NAME"),
        (("W1_10_../x", "taxol", "Stab", "1", "train"), "line 2.*WEEK_PLATE_NAME"),
        (("W1_10_z", "taxol", "Stab", "2", "train"), "line 2.*W1_10_z.*STATE.*'2'"),
        (("W1_10_z", "taxol", "Chol", "1", "train"), "'taxol' has MoA 'Stab', elsewhere 'Chol'"),
        (("W1_10_z", "nova", "Chol", "1", "train"), "no row for 'nova'"),
        (ROWS[1], "line 4.*W1_11_b_1.0 appears twice"),
    ],
)
def test_bad_rows_are_named(folder, row, message):
    write_table(folder, [row, *ROWS])
    with pytest.raises(ValueError, match=message):
        ImagingCells(folder)


def test_bad_images_are_named(folder):
    key = ROWS[2][0]
    data = ImagingCells(folder)
    for pixels, message in [
        (np.zeros((4, 6, 3), np.float32), "uint8.*float32"),
        (np.zeros((4, 6, 4), np.uint8), r"\(H, W, 3\).*\(4, 6, 4\)"),
        (np.zeros((5, 6, 3), np.uint8), r"\(5, 6, 3\), others"),
    ]:
        write_pixels(folder, key, pixels)
        with pytest.raises(ValueError, match=f"image {key}.*{message}"):
            data.images(torch.tensor([2]))
    file = folder / "W1/10/c_2.0.npy"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"image {key}.*damaged"):
        data.images(torch.tensor([2]))
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"image {key}.*missing"):
        data.images(torch.tensor([2]))


def test_bad_folders_and_splits_are_named(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match=r"exactly one \*_df_all.csv.*found none"):
        ImagingCells(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ValueError, match=r"'val'.*\['test', 'train'\]"):
        ImagingCells(folder, "val")
    with pytest.raises(ValueError, match=r"lacks the columns \['WELL'\]"):
        ImagingCells(folder, pairing="WELL")
    embedding = folder / "emb_fp.csv"
    embedding.write_text(embedding.read_text().replace("taxol,1", "taxol,nan"))
    with pytest.raises(ValueError, match="'taxol' holds nan"):
        ImagingCells(folder)

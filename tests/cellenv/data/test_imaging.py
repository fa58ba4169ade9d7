import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from cellenv.data.imaging import ImagingCells
from cellenv.data.layouts import BBBC021, JUMP, RXRX1, rename_values
from cellenv.env import VirtualCellEnv
from tests.cellenv.imaging_toys import ROWS, add_unseen, write_csv, write_folder, write_pixels, write_table


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path)
    return tmp_path


@pytest.fixture(params=["files", "packed"])
def cache(request, tmp_path_factory):
    """Where the packed copy lies, if images come from one."""
    return tmp_path_factory.mktemp("cache") if request.param == "packed" else None


def letters(data):
    return "".join(key.split("_")[2] for key in data.keys)


def test_train_leaves_unseen_compounds_out(folder):
    data = ImagingCells(folder)
    assert data.compounds == ("docetaxel", "mevinolin/lovastatin", "taxol")
    assert data.moas == ("Chol", "Stab") and data.compound_moa.tolist() == [1, 0, 1]
    assert data.perturbation.tolist() == [2, -1, 1, -1]
    assert data.plate.tolist() == [0, 0, 0, 1]
    assert data.conditions.tolist() == [[3, 4], [5, 6], [1, 2]]
    assert data.size == (3, 4, 6) and data.skipped == ()


@pytest.mark.parametrize(
    ("split", "unseen", "expected"),
    [("train", None, "abcde"), ("train", True, "bde"), ("test", False, "fg"), (None, None, "abcdefg")],
)
def test_selection_keeps_ids(folder, split, unseen, expected):
    data = ImagingCells(folder, split, unseen=unseen)
    assert letters(data) == expected
    names = [data.compounds[i] if i >= 0 else "DMSO" for i in data.perturbation]
    assert names == [row[1] for row in ROWS if row[0].split("_")[2] in expected]
    assert data.plate.tolist() == [int(row[0][1]) - 1 for row in ROWS if row[0].split("_")[2] in expected]


def test_a_column_names_the_held_out_compounds(folder):
    add_unseen(folder, "0010000")
    assert letters(ImagingCells(folder)) == "abde" and letters(ImagingCells(folder, unseen=True)) == "bce"


@pytest.mark.parametrize(("flags", "left_out"), [("1000000", "W2_20_f_5.0"), ("0000010", "W1_10_a_0.0")])
def test_a_compound_that_one_row_holds_out_is_never_trained_on(folder, flags, left_out):
    add_unseen(folder, flags)
    message = f"{left_out}: need UNSEEN as in other rows of compound 'taxol', which hold it out; got '0'"
    with pytest.raises(ValueError, match=message):
        ImagingCells(folder)
    with pytest.warns(UserWarning, match=message):
        assert letters(ImagingCells(folder, skip_bad=True)) == "bcde"


def test_images_map_bytes_to_unit_range_channels_first(folder, cache):
    data = ImagingCells(folder, None, unseen=None, cache=cache)
    images = data.images(torch.tensor([5, 1]))
    assert images.shape == (2, 3, 4, 6) and images.dtype == torch.float32
    torch.testing.assert_close(images[:, 1], torch.tensor([50, 10]).reshape(2, 1, 1).expand(2, 4, 6) / 127.5 - 1)
    assert (images[:, data.channels.index("DNA")] == 1).all()
    torch.testing.assert_close(images[:, 0, 0, 5], torch.full((2,), 7 / 127.5 - 1))


def test_a_selection_reads_its_own_images_as_stored_bytes(folder, cache):
    data = ImagingCells(folder, "test", cache=cache)
    raw = data.raw(torch.tensor([1, 0, 1]))
    assert raw.dtype == torch.uint8 and raw[:, 1, 2, 2].tolist() == [60, 50, 60]


def test_controls_come_from_the_pairing_column(folder):
    treated = torch.tensor([0] * 8)
    by_week = ImagingCells(folder).contexts(treated, torch.Generator().manual_seed(0))
    torch.testing.assert_close(by_week["x0"][:, 1], torch.full((8, 4, 6), 10 / 127.5 - 1))
    by_plate = ImagingCells(folder, pairing="PLATE")
    with pytest.raises(ValueError, match=r"image W1_10_a_0.0.*no control.*1 other"):
        by_plate.contexts(treated, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("W1_10", "taxol", "Stab", "1", "train"), "line 2.*WEEK_PLATE_NAME"),
        (("W1_10_z", "taxol", "Chol", "1", "train"), "W1_10_z: .*'taxol' has MoA 'Chol', elsewhere 'Stab'"),
        (("W1_10_z", "nova", "Chol", "1", "train"), "image W1_10_z.*no row for 'nova'"),
    ],
)
def test_invalid_rows_are_named(folder, row, message):
    write_table(folder, [row, *ROWS])
    with pytest.raises(ValueError, match=message):
        ImagingCells(folder)


def test_bad_images_are_named(folder):
    key = ROWS[2][0]
    data = ImagingCells(folder)
    for pixels, message in [
        (np.zeros((4, 6, 3), np.float32), "uint8.*float32"),
        (np.zeros((4, 6, 4), np.uint8), r"\(H, W, 3\).*\(4, 6, 4\)"),
        (np.zeros((5, 6, 3), np.uint8), r"\(5, 6, 3\), others are"),
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


def test_skip_bad_counts_and_lists_what_it_leaves_out(folder, cache):
    bad = [
        ("W1_10", "taxol", "Stab", "1", "train"),
        ("W1_10_y", "nova", "Chol", "1", "train"),
        ("W3_30_z", "taxol", "Stab", "1", "train"),
        ("W1_10_gone", "taxol", "Stab", "1", "train"),
    ]
    write_table(folder, [*bad, *ROWS])
    write_pixels(folder, "W3_30_z", np.zeros((4, 6, 3), np.uint8))
    truncated = folder / "W2/20/e_4.0.npy"
    truncated.write_bytes(truncated.read_bytes()[:-5])  # the only control of W2 in the train split
    with pytest.warns(UserWarning, match=rf"6 rows of {folder} are left out:\n.*line 2"):
        data = ImagingCells(folder, unseen=None, skip_bad=True, cache=cache)
    assert letters(data) == "abc"
    assert data.compounds == ("docetaxel", "mevinolin/lovastatin", "taxol")
    for message, error in zip(
        [
            "line 2.*WEEK_PLATE_NAME",
            "W1_10_y.*no row for 'nova'",
            "W1_10_gone.*missing",
            "W2_20_e_4.0.*damaged",
            "W3_30_z: BATCH W3 holds no control",
            "W2_20_d_3.0: BATCH W2 holds no control",
        ],
        data.skipped,
        strict=True,
    ):
        assert re.search(message, error)
    assert data.draw_contexts(4, torch.Generator().manual_seed(0))["x0"].shape == (4, 3, 4, 6)


def test_a_compound_has_the_mechanism_of_most_of_its_rows(folder):
    write_table(folder, [("W1_10_z", "taxol", "Typo", "1", "test"), *ROWS])
    with pytest.warns(UserWarning, match="W1_10_z: compound 'taxol' has MoA 'Typo', elsewhere 'Stab'"):
        data = ImagingCells(folder, unseen=None, skip_bad=True)
    assert letters(data) == "abcde" and data.moas == ("Chol", "Stab") and len(data.skipped) == 1


def test_no_treated_image_is_left_without_a_word(folder, cache):
    with pytest.raises(ValueError, match=r"left of 4: 3 are of other splits than 'test'.*, 1 of compounds.*--unseen"):
        ImagingCells(folder, "test", unseen=True)
    only_held_out = replace(BBBC021, unseen=("taxol", "mevinolin/lovastatin", "docetaxel"))
    with pytest.raises(
        ValueError, match=r"of 4: 1 are of other.*, 3 of compounds that are held out \(--include-unseen"
    ):
        ImagingCells(folder, layout=only_held_out)
    (folder / "W2/20/f_5.0.npy").unlink()
    with pytest.raises(ValueError, match=r"is left: 1 rows of .* are left out:\n.*f_5.0.npy is missing"):
        ImagingCells(folder, "test", skip_bad=True, cache=cache)


def test_rows_that_are_all_invalid_are_listed(folder):
    write_csv(folder / "emb_fp.csv", [["", "0"], ["other", 1]])
    with pytest.raises(ValueError, match=r"no treated image is left: 4 rows of .* are left out:\n.*no row for 'taxol'"):
        ImagingCells(folder, skip_bad=True)
    write_table(folder, [("W1_10", *row[1:]) for row in ROWS])
    with pytest.raises(ValueError, match=r"it has none \(.*\); 7 rows of .* are left out:\n.*WEEK_PLATE_NAME"):
        ImagingCells(folder, skip_bad=True)


def test_controls_alone_are_cells_too(folder):
    write_table(folder, [row for row in ROWS if row[1] == "DMSO"])
    assert letters(ImagingCells(folder)) == "be"


def test_values_of_split_and_state_may_have_other_names(folder):
    names = {"train": "iid", "test": "ood", "1": "compound", "trt": "compound", "0": "negcon", "control": "poscon"}
    write_table(folder, [(*row[:3], names[row[3]], names[row[4]]) for row in ROWS])
    with pytest.raises(ValueError, match=r"STATE as one of 1, trt, 0, control; got 'compound' \(--state-names"):
        ImagingCells(folder)
    layout = rename_values(BBBC021, states="treated=compound,control=negcon,ignored=poscon")
    with pytest.raises(ValueError, match=r"no image of split 'train' in .*; it has iid, ood \(--split-names\)"):
        ImagingCells(folder, layout=layout)
    layout = rename_values(layout, splits="train=iid,test=ood")
    assert letters(ImagingCells(folder, layout=layout, unseen=None)) == "abcd"
    for wrong in ("val=iid", "train", "train="):
        with pytest.raises(ValueError, match=f"name of train, test; got '{wrong}'"):
            rename_values(BBBC021, splits=wrong)


def test_the_size_of_most_images_counts(folder, cache):
    write_pixels(folder, ROWS[0][0], np.zeros((6, 6, 3), np.uint8))
    with pytest.warns(UserWarning, match=r"1 rows .*\n.*image W1_10_a_0.0 is \(6, 6, 3\), others are \(4, 6, 3\)"):
        data = ImagingCells(folder, unseen=None, skip_bad=True, cache=cache)
    assert letters(data) == "bcde" and data.size == (3, 4, 6)


def test_an_archive_under_the_name_of_an_image_is_named_or_skipped(folder, cache):
    with (folder / "W1/10/c_2.0.npy").open("wb") as stream:
        np.savez(stream, np.zeros((4, 6, 3), np.uint8))
    with pytest.warns(UserWarning, match=r"image W1_10_c_2.0: .*c_2.0.npy is damaged"):
        assert letters(ImagingCells(folder, skip_bad=True, cache=cache)) == "abe"


def test_a_bad_image_of_another_split_is_no_error(folder, cache):
    (folder / "W2/20/g_6.0.npy").unlink()
    assert ImagingCells(folder, "train", skip_bad=True, cache=cache).skipped == ()


def test_bad_folders_and_splits_are_named(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match=r"exactly one \*_df_all.csv.*found none"):
        ImagingCells(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ValueError, match=r"'val'.*it has test, train \(--split-names\)"):
        ImagingCells(folder, "val")
    with pytest.raises(ValueError, match=r"lacks the columns \['WELL'\]"):
        ImagingCells(folder, pairing="WELL")


def write_gene_folder(folder):
    """Four images as RxRx1 is laid out; one is a positive control."""
    states = ["treated", "negative_control", "positive_control", "treated"]
    keys = [f"U2OS-01_2_B0{i}_1_{i}" for i in range(4)]
    rows = [(i, key, "01", "2", f"gene{i % 3}", state, "train") for i, (key, state) in enumerate(zip(keys, states))]
    (folder / "metadata").mkdir()
    header = ["", "SAMPLE_KEY", "BATCH", "PLATE", "CPD_NAME", "ANNOT", "SPLIT"]
    write_csv(folder / "metadata" / "rxrx1_df.csv", [header, *rows])
    write_csv(folder / "rxrx1_gene2vec_embeddings.csv", [["", "0", "1"], ["gene0", 1, 2], ["gene1", 3, 4]])
    for i, key in enumerate(keys):
        write_pixels(folder, key, np.full((4, 4, 6), i, np.uint8), RXRX1)


def test_rxrx1_reads_its_own_columns_files_and_stains(tmp_path):
    """The tables lie in the folder `metadata`."""
    write_gene_folder(tmp_path)
    assert (tmp_path / "01_2" / "B03" / "1_3.npy").exists()
    data = ImagingCells(tmp_path, layout=RXRX1)
    assert data.perturbation.tolist() == [0, -1, 0] and data.compounds == ("gene0",)
    assert data.raw(torch.tensor([2, 1]))[:, 0, 0, 0].tolist() == [3, 1]
    assert data.size == (6, 4, 4) and data.channels[0] == "DNA"


def test_jump_pairs_by_plate_and_names_compounds_by_broad_sample(tmp_path):
    keys = ["BR1_A01_s1_4_2", "BR1_A02_s1_7", "BR2_A01_s1_1"]
    rows = [(i, key, key[:3], "BRD-1/2", s, "train") for i, (key, s) in enumerate(zip(keys, ["trt", "control", "trt"]))]
    write_csv(tmp_path / "metadata_large.csv", [["", "SAMPLE_KEY", "PLATE", "BROAD_SAMPLE", "STATE", "SPLIT"], *rows])
    write_csv(tmp_path / "cpg0000_combined_embeddings.csv", [["", "0"], ["BRD-1/2", 1]])
    for i, key in enumerate(keys):
        write_pixels(tmp_path, key, np.full((4, 4, 5), i, np.uint8), JUMP)
    assert (tmp_path / "BR1" / "A01_s1" / "A01_s1_4_2.npy").exists()
    with pytest.warns(UserWarning, match="1 rows.*\n.*BR2_A01_s1_1: PLATE BR2 holds no control"):
        data = ImagingCells(tmp_path, layout=JUMP, skip_bad=True)
    assert data.perturbation.tolist() == [0, -1] and data.compounds == ("BRD-1/2",)


def test_without_a_label_column_contexts_have_no_moa(folder):
    table = folder / "toy_df_all.csv"
    table.write_text(table.read_text().replace("ANNOT", "OTHER", 1))
    with pytest.raises(ValueError, match=r"ANNOT.*label=None"):
        ImagingCells(folder)
    data = ImagingCells(folder, layout=replace(BBBC021, label=None))
    assert data.moas == () and data.compound_moa.tolist() == [-1, -1, -1]
    env = VirtualCellEnv(data, batch_size=2, seed=0)
    check_env_specs(env)
    td = env.reset()
    assert "moa" not in td.keys()
    assert torch.equal(env.reset(td, set_state=True)["x0"], td["x0"])


def test_an_added_compound_is_applied_to_controls(folder):
    data = ImagingCells(folder)
    before = data.compounds
    nova = data.add_compound("nova/2", torch.tensor([7.0, 8.0]), "Chol")
    assert data.compounds == (*before, "nova/2") and data.compound_id("nova/2") == nova == 3
    contexts = data.contexts_of(torch.tensor([nova, 0]), data.controls[:2], torch.Generator().manual_seed(0))
    assert contexts["condition"].tolist() == [[7, 8], [3, 4]] and contexts["moa"].tolist() == [0, 1]
    unknown = data.add_compound("unknown", torch.zeros(2))
    assert data.compound_moa[unknown] == -1
    for name, condition, moa, message in [
        ("taxol", torch.zeros(2), None, "'taxol' is there already"),
        ("new", torch.zeros(3), None, r"\(2,\); got \(3,\)"),
        ("new", torch.tensor([torch.nan, 0]), None, "finite"),
        ("new", torch.zeros(2), "Other", "'Other'; these data have Chol, Stab"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.add_compound(name, condition, moa)

"""Each kind of damage is found in a folder that is sound otherwise, and names its rows and what mends it."""

from dataclasses import replace

import numpy as np
import pytest

from cellenv.data.imaging import ImagingCells
from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from cellenv.data.layouts import BBBC021, BBBC021_UNSEEN, rename_values
from cellenv.data.prepare.splits import HOW_TO_TEST
from tests.cellenv.data.inspection.folders import CLASSES, EMBEDDING, ROWS, pixels, write_sound
from tests.cellenv.imaging_toys import add_unseen, write_pixels

KEYS = [key for key, *_ in ROWS]


def problems(folder, **options):
    return inspect_folder(CellFolder.read(folder, **{"min_cells": 2, **options})).problems


def only(folder, **options):
    (problem,) = problems(folder, **options)
    return problem


def test_a_sound_folder_has_no_problem(tmp_path):
    assert problems(write_sound(tmp_path)) == ()


def test_a_folder_is_sound_whose_embedding_has_no_header_and_begins_by_counting(tmp_path):
    assert problems(write_sound(tmp_path, embedding=EMBEDDING[1:])) == ()
    assert ImagingCells(tmp_path).conditions.tolist() == [[3, 4], [1, 2]]


def changed(index, **columns):
    """The table with other values in one row."""
    names = ("key", "compound", "moa", "state", "split")
    rows = [dict(zip(names, row, strict=True)) for row in ROWS]
    rows[index] |= columns
    return [tuple(row.values()) for row in rows]


STOPS = {
    "a key twice": (changed(1, key=KEYS[0]), EMBEDDING, "rows of toy_df_all.csv cannot be read", "--index"),
    "no condition": (ROWS, EMBEDDING[:2], "compounds have no row in emb_fp.csv", "--embeddings"),
    "no number": (ROWS, [*EMBEDDING[:2], ["ALLN", "x", 4]], "rows of emb_fp.csv are invalid", "--embeddings"),
    "two mechanisms": (changed(0, moa="Degr"), EMBEDDING, "compounds have several mechanisms", "--unlabelled"),
}


@pytest.mark.parametrize("case", STOPS)
def test_faults_of_the_tables_stop_a_run_as_they_stop_the_reader(tmp_path, case):
    rows, embedding, title, flag = STOPS[case]
    write_sound(tmp_path, rows, embedding)
    problem = next(problem for problem in problems(tmp_path) if title in problem.title)
    assert problem.stops and flag in problem.mend and problem.rows
    assert any(text in " ".join(problem.rows) for text in ("ALLN", "taxol", KEYS[0]))
    with pytest.raises(ValueError):
        ImagingCells(tmp_path)
    assert not any(problem.stops for problem in problems(tmp_path, skip_bad=True))


def test_an_image_that_cannot_be_read_stops_a_run_if_it_is_used(tmp_path):
    rows = changed(0, split="spare")
    for row in (0, 1):
        write_sound(tmp_path, rows)
        file = tmp_path / BBBC021.file(rows[row][0])
        file.write_bytes(b"no image")
        problem = next(p for p in problems(tmp_path, min_cells=1) if p.title == "images cannot be read")
        assert problem.stops == (row == 1) and rows[row][0] in problem.rows[0] and "--skip-bad" in problem.mend


def test_treated_images_need_controls_of_their_plate_and_split(tmp_path):
    write_sound(tmp_path, [row for row in ROWS if row[1:] != ("DMSO", "DMSO", "0", "test")])
    problem = only(tmp_path)
    assert problem.stops and problem.count == 4 and KEYS[6] in problem.rows[0] and "--pairing" in problem.mend
    write_sound(tmp_path, [row for row in ROWS if row[0] != KEYS[8]])
    few = only(tmp_path)
    assert not few.stops and few.rows == ("W1, test: 1 control for 4 treated images",)


def test_a_split_without_a_seen_image_stops_a_run(tmp_path):
    write_sound(tmp_path, [(*row[:4], "train") for row in ROWS])
    problem = only(tmp_path)
    assert problem.stops and "to test on" in problem.title and problem.rows == ("SPLIT 'train': 8 treated images",)
    assert "write 'test' into SPLIT" in problem.mend and problem.mend.endswith(HOW_TO_TEST)  # as `prepare` says
    assert problems(tmp_path, splits=("train",)) == ()
    held_out = replace(BBBC021, unseen=("taxol", "ALLN"))
    write_sound(tmp_path)
    found = problems(tmp_path, layout=held_out)
    assert [p.stops for p in found] == [True, True, False]
    assert all("--include-unseen" in p.mend for p in found)
    assert problems(tmp_path, layout=held_out, include_unseen=True) == ()
    assert not {"taxol", "ALLN"} & {*BBBC021_UNSEEN}


def test_splits_that_no_run_reads_are_named(tmp_path):
    more = [(f"W1_10_x{i}_0.0", *CLASSES[i % 3], ("Train", "", "Train")[i % 3]) for i in range(6)]
    write_sound(tmp_path, [*ROWS, *more])
    for splits in (("train", "test"), ("test",)):
        problem = only(tmp_path, splits=splits)
        assert problem.rows == ("'' (2 images)", "'Train' (4 images)") and not problem.stops
        assert "--split-names train=NAME" in problem.mend and "no run" in problem.title
    renamed = rename_values(BBBC021, splits="train=Train,test=Test")
    assert only(tmp_path, layout=renamed).rows == ("'' (2 images)",)


@pytest.mark.parametrize("held_out", ["taxol", "docetaxel"])
def test_the_column_of_held_out_compounds_is_read_as_the_reader_does(tmp_path, held_out):
    rows = [(key, "docetaxel" if name == "ALLN" else name, *rest) for key, name, *rest in ROWS]
    write_sound(tmp_path, rows, [*EMBEDDING[:2], ["docetaxel", 3, 4]])
    add_unseen(tmp_path, [int(name == held_out) for _, name, *_ in rows])
    (problem,) = problems(tmp_path)
    assert problem.rows == (f"{held_out} (4 images)",) and not problem.stops
    classes = {row.name: row for row in inspect_folder(CellFolder.read(tmp_path)).classes}
    moa = {"taxol": "Stab", "docetaxel": "Degr"}[held_out]
    assert [(name, row.held_out) for name, row in classes.items() if row.held_out] == [(moa, 4)]
    data = ImagingCells(tmp_path)
    assert {data.compounds[i] for i in data.perturbation if i >= 0} == {*("taxol", "docetaxel")} - {held_out}


def test_a_compound_that_only_some_rows_hold_out_stops_a_run_as_it_stops_the_reader(tmp_path):
    write_sound(tmp_path)
    add_unseen(tmp_path, ["1", *[""] * 11])
    problem = next(problem for problem in problems(tmp_path) if problem.stops)
    assert problem.rows == ("taxol (1 of 4 images)",) and "the same UNSEEN" in problem.mend
    with pytest.raises(ValueError, match="need UNSEEN as in other rows"):
        ImagingCells(tmp_path)
    assert not any(problem.stops for problem in problems(tmp_path, skip_bad=True))


def test_classes_with_few_images_are_named_from_the_smallest(tmp_path):
    write_sound(tmp_path, [row for row in ROWS if row[0] != KEYS[0]])
    problem = only(tmp_path)
    assert problem.rows == ("Stab (1)",) and "--min-cells" in problem.mend and not problem.stops
    assert only(tmp_path, min_cells=3).rows == ("Stab (1)", "Degr (2)")


def test_compounds_that_cannot_be_told_apart_or_evaluated(tmp_path):
    write_sound(tmp_path, ROWS, [EMBEDDING[0], ["taxol", 1, 2], ["ALLN", 1, 2]])
    assert only(tmp_path).rows == ("taxol = ALLN",)
    write_sound(tmp_path, [row for row in ROWS if row[0] != KEYS[6]])
    assert only(tmp_path).rows == ("taxol",) and "one test image" in only(tmp_path).title


def test_copies_are_named_and_worse_if_they_leak_into_the_test(tmp_path):
    write_sound(tmp_path)
    write_pixels(tmp_path, KEYS[1], pixels(0))
    assert only(tmp_path).rows == (f"{KEYS[0]} = {KEYS[1]}",)
    write_pixels(tmp_path, KEYS[6], pixels(0))
    leak, copies = problems(tmp_path)
    assert "train and test" in leak.title and leak.rows == copies.rows == (f"{KEYS[0]} = {KEYS[1]} = {KEYS[6]}",)


def test_equal_blank_and_saturated_channels_are_named(tmp_path):
    write_sound(tmp_path)
    bad = pixels(0)
    bad[..., 1] = bad[..., 0]
    write_pixels(tmp_path, KEYS[0], bad)
    assert only(tmp_path).rows == (f"{KEYS[0]} (actin = tubulin)",) and "--channels" in only(tmp_path).mend
    for value, title in ((9, "blank"), (255, "saturated")):
        bad = pixels(0)
        bad[:7, :, 2] = value
        bad[7, :, 2] = value if value == 9 else 0
        write_pixels(tmp_path, KEYS[0], bad)
        assert only(tmp_path).rows == (f"{KEYS[0]} (DNA)",) and title in only(tmp_path).title


def test_unequal_classes_are_told(tmp_path):
    more = [(f"W1_10_x{i}_0.0", "taxol", "Stab", "1", "train") for i in range(60)]
    problem = only(write_sound(tmp_path, [*ROWS, *more]))
    assert problem.rows == ("Stab (62)", "Degr (2)") and not problem.stops


def test_only_so_many_rows_are_kept(tmp_path):
    write_sound(tmp_path)
    for key in KEYS:
        write_pixels(tmp_path, key, np.zeros((8, 8, 3), np.uint8))
    blank = next(p for p in problems(tmp_path) if "blank" in p.title)
    assert blank.count == 36 and len(blank.rows) == 20

"""Facts about a folder, and a fingerprint that changes with it."""

import os
from dataclasses import replace

import pytest

from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from cellenv.data.layouts import BBBC021
from tests.cellenv.data.inspection.folders import ROWS, pixels, write_sound
from tests.cellenv.imaging_toys import write_pixels


def test_facts_are_those_of_the_tables_and_images(tmp_path):
    found = inspect_folder(CellFolder.read(write_sound(tmp_path)))
    assert (found.treated, found.controls, found.compounds, found.contexts) == (8, 4, 2, 2)
    assert (found.channels, found.size, found.condition_size) == (BBBC021.channels, (8, 8), 2)
    assert [(row.name, row.compounds, row.cells) for row in found.classes] == [
        ("Degr", 1, {"train": 2, "test": 2}),
        ("Stab", 1, {"train": 2, "test": 2}),
    ]
    (plate,) = found.plates
    assert (plate.name, plate.treated, plate.controls) == ("W1", {"train": 4, "test": 4}, {"train": 2, "test": 2})
    assert [sum(histogram) for histogram in found.histograms] == [12 * 64] * 3


def test_held_out_images_are_counted_apart_and_classes_may_be_compounds(tmp_path):
    layout = replace(BBBC021, unseen=("taxol",), label=None)
    found = inspect_folder(CellFolder.read(write_sound(tmp_path), layout=layout))
    assert not found.labelled and found.contexts == 1
    assert [(row.name, sum(row.cells.values()), row.held_out) for row in found.classes] == [
        ("ALLN", 4, 0),
        ("taxol", 0, 4),
    ]


@pytest.mark.parametrize("change", ["table", "conditions", "image", "layout", "min_cells", "nothing"])
def test_the_fingerprint_changes_with_what_is_inspected(tmp_path, change):
    before = CellFolder.read(write_sound(tmp_path)).fingerprint()
    options = {
        "layout": {"layout": replace(BBBC021, nucleus="actin", cytoplasm=("DNA",))},
        "min_cells": {"min_cells": 9},
    }
    if change == "image":
        write_pixels(tmp_path, ROWS[0][0], pixels(99))
        os.utime(tmp_path / BBBC021.file(ROWS[0][0]), (1, 1))
    elif change in ("table", "conditions"):
        file = tmp_path / {"table": "toy_df_all.csv", "conditions": "emb_fp.csv"}[change]
        file.write_text(file.read_text() + "\n")
    after = CellFolder.read(tmp_path, **options.get(change, {})).fingerprint()
    assert (after == before) == (change == "nothing")


def test_the_bar_of_an_image_a_step_is_shown_on_a_terminal_alone(tmp_path, capsys):
    inspect_folder(CellFolder.read(write_sound(tmp_path)))
    assert "check" not in capsys.readouterr().err

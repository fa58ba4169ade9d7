"""Options of cells, segmenters and rewards reach what they are about, and what cannot work is refused."""

import csv
from typing import get_type_hints

import numpy as np
import pytest
import torch
from folder_toys import write_folder

from cellenv.checkpoints import digest
from cellenv.data.presets import LAYOUTS
from cellenv.data.synthetic import SyntheticCells
from rewards import JudgeSegmenter
from rewards.segmentation import ClassicalSegmenter, EmbeddedSegmenter


@pytest.fixture(autouse=True)
def examples(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")


@pytest.fixture
def folder(tmp_path):
    """A seen and a held-out compound, two images each and two controls, in the test split."""
    data = SyntheticCells("test")
    taxol, docetaxel = data.compound_id("taxol"), data.compound_id("docetaxel")
    shown = (data.perturbation == taxol).nonzero().flatten()[:4]
    data.perturbation[shown[2:]] = docetaxel
    rows = torch.cat([shown, data.controls[:2]])
    write_folder(tmp_path / "cells", data, rows, torch.zeros(6, 3, 16, 16))
    return tmp_path / "cells"


def names(data):
    return {data.compounds[p] for p in data.perturbation[data.treated].tolist()}


def test_held_out_compounds_are_taken_with_the_others_alone_or_not_at_all(folder):
    from loading import load_cells
    from options import Cells

    with_all = Cells(data=folder, include_unseen=True)
    assert names(load_cells(Cells(data=folder), "test")) == {"taxol"}
    assert names(load_cells(Cells(data=folder), "test", unseen=True)) == {"docetaxel"}
    assert names(load_cells(with_all, "test")) == {"taxol", "docetaxel"}
    with pytest.raises(ValueError, match="--unseen takes the held-out compounds alone, --include-unseen all"):
        load_cells(with_all, "test", unseen=True)


def test_bad_rows_are_left_out_and_images_packed_as_told(folder, tmp_path):
    from loading import load_cells
    from options import Cells

    (folder / "Week1" / "100" / "1_0.0.npy").write_bytes(b"no image")
    with pytest.raises(ValueError, match="damaged"):
        load_cells(Cells(data=folder, cache=tmp_path / "a"), "test")
    with pytest.warns(UserWarning, match="1 rows of .* are left out"):
        assert len(load_cells(Cells(data=folder, cache=tmp_path / "b", skip_bad=True), "test")) == 3
    assert np.load(tmp_path / "b" / "images.npy").shape == (6, 3, 16, 16)


def test_layouts_are_those_of_the_library():
    from options import Folder

    assert get_type_hints(Folder)["layout"].__args__ == tuple(LAYOUTS)


def test_a_data_set_without_mechanisms_is_loaded_and_refused_by_what_asks_for_them(tmp_path):
    import fit_reference
    import train_classifier
    from loading import load_cells
    from options import Cells

    keys = [f"U2OS-01_2_B03_1_{i}" for i in range(4)]
    header = ["", "SAMPLE_KEY", "BATCH", "CPD_NAME", "ANNOT", "SPLIT"]
    states = ["treated", "negative_control"] * 2
    rows = [(i, key, "b", "gene", s, ("train", "test")[i // 2]) for i, (key, s) in enumerate(zip(keys, states))]
    for name, content in {"rxrx1_df.csv": [header, *rows], "x_embeddings.csv": [["", "0"], ["gene", 1]]}.items():
        with (tmp_path / name).open("w", newline="") as stream:
            csv.writer(stream).writerows(content)
    for i in range(4):
        (tmp_path / "01_2" / "B03").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "01_2" / "B03" / f"1_{i}.npy", np.zeros((4, 4, 6), np.uint8))
    cells = {"data": tmp_path, "layout": "rxrx1"}
    assert load_cells(Cells(**cells), "test").size == (6, 4, 4)
    for script in (fit_reference, train_classifier):
        with pytest.raises(ValueError, match=r"no mechanisms of action: need a column .*ANNOT"):
            script.main(script.Config(**cells))


def test_the_embedded_world_takes_no_option_of_a_folder():
    from options import Cells

    with pytest.raises(ValueError, match="need --data DIR for --skip-bad, --include-unseen"):
        Cells(skip_bad=True, include_unseen=True)


def test_a_segmenter_is_named_after_exactly_what_it_is(tmp_path, monkeypatch):
    import loading
    from options import Eyes

    class Cellpose(ClassicalSegmenter):
        def __init__(self, *weights, device):
            self.files = [tmp_path / name for name in weights]

    own = EmbeddedSegmenter(nucleus_widths=(4, 8), cell_widths=(4, 8))
    own.save_pretrained(tmp_path / "own.safetensors")
    for name in "ab":
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(loading, "CellposeSegmenter", Cellpose)
    asked = {
        "embedded": Eyes(),
        "own": Eyes(segmenter=str(tmp_path / "own.safetensors")),
        "classical": Eyes(segmenter="classical"),
        "ab": Eyes(segmenter="cellpose", nucleus_weights="a", cell_weights="b"),
        "bb": Eyes(segmenter="cellpose", nucleus_weights="b", cell_weights="b"),
    }
    found = {key: loading.load_segmenter(eyes) for key, eyes in asked.items()}
    assert len({name for _, name in found.values()}) == len(asked)
    assert found["embedded"][1] == digest(EmbeddedSegmenter.shipped)
    assert found["own"][0].config == own.config
    assert [type(segmenter) for segmenter, _ in found.values()][2:] == [ClassicalSegmenter, Cellpose, Cellpose]


def test_a_segmenter_that_is_none_is_refused():
    from options import Eyes

    with pytest.raises(ValueError, match=r"need --segmenter embedded, classical, cellpose, or a path.*got 'clasical'"):
        Eyes(segmenter="clasical")
    with pytest.raises(ValueError, match="holds a JudgeSegmenter, need a EmbeddedSegmenter"):
        from loading import load_segmenter

        load_segmenter(Eyes(segmenter=str(JudgeSegmenter.shipped)))


def test_a_reference_of_another_segmenter_is_refused():
    from loading import load_suite
    from options import Scoring

    assert load_suite(Scoring(), "cpu")["reference"].moas == SyntheticCells.moas
    with pytest.raises(ValueError, match=r"reference was fitted with .* --segmenter classical is classical"):
        load_suite(Scoring(segmenter="classical"), "cpu")


def test_a_generator_of_other_cells_is_refused(folder):
    from loading import check_generators, load_cells
    from options import Cells

    from cellenv.generator import CellFlux

    generator = CellFlux.from_pretrained("embedded")
    check_generators(SyntheticCells("test"), generator)
    with pytest.raises(ValueError, match=r"\(3, 96, 96\) images from 64 .* the cells have \(3, 16, 16\) and 64"):
        check_generators(load_cells(Cells(data=folder), "test"), generator)

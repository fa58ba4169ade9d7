import csv

import numpy as np
import pytest
import torch
from folder_toys import write_folder
from PIL import Image

from cellenv.data.synthetic import SyntheticCells
from rewards.classifier import MoAClassifier
from rewards.measures import measure
from rewards.segmentation import ClassicalSegmenter

COLUMNS = [
    *("sample_key", "compound", "moa", "state", "nucleus_count", "cell_count", "nucleus_area_max", "cell_area_max"),
    *("roundness", "containment", "moa_probability"),
]


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import score_images

    return score_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten synthetic cells, the last one black: the folder, the images, the table."""
    path = tmp_path_factory.mktemp("cells")
    data = SyntheticCells("test")
    rows = torch.cat([data.treated[:360:60], data.controls[:4]])
    images = data.images(rows)
    images[-1] = -1
    return path, images, write_folder(path, data, rows, images, train=7)


def read(file):
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        return reader.fieldnames, list(reader)


def test_every_image_has_a_row_and_its_measures(script, folder, tmp_path, capsys):
    path, images, table = folder
    script.main(script.Config(data=path, output_dir=tmp_path, segmenter="classical"))
    columns, rows = read(tmp_path / "measures.csv")
    assert columns == COLUMNS
    assert [row["sample_key"] for row in rows] == [row[1] for row in table]
    assert [(row["compound"], row["moa"], row["state"]) for row in rows] == [(*row[4:6], str(row[6])) for row in table]
    stored = script.ImagingCells(path, split=None, unseen=None).images(torch.arange(len(table)))
    torch.testing.assert_close(stored, images, rtol=0, atol=1e-5)
    expected = measure(ClassicalSegmenter()(stored))
    for name, values in expected.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            assert (row[name] == "") if np.isnan(value) else float(row[name]) == pytest.approx(value, rel=1e-5)
    black = rows[-1]
    assert black["nucleus_count"] == black["cell_count"] == "0"
    assert black["roundness"] == black["containment"] == black["nucleus_area_max"] == black["moa_probability"] == ""
    printed = capsys.readouterr().out
    assert "90.00% of the images have a nucleus" in printed
    assert all(row[5] in printed for row in table)


def test_cellpose_segments_with_the_weights_that_are_named(script, folder, tmp_path, monkeypatch):
    import loading

    class Named(ClassicalSegmenter):
        files = ()

        def __init__(self, nuclei, cells, *, device):
            assert (nuclei, cells) == ("mine", None)

    monkeypatch.setattr(loading, "CellposeSegmenter", Named)
    files = {}
    for name, weights in (("classical", {}), ("cellpose", {"nucleus_weights": "mine"})):
        script.main(script.Config(data=folder[0], output_dir=tmp_path / name, segmenter=name, **weights))
        files[name] = (tmp_path / name / "measures.csv").read_text()
    assert files["cellpose"] == files["classical"]
    with pytest.raises(ValueError, match="weights are for --segmenter cellpose; embedded takes none"):
        script.main(script.Config(data=folder[0], output_dir=tmp_path, cell_weights="mine"))


def test_the_contact_sheet_is_a_picture_with_outlines(script, folder, tmp_path):
    script.main(script.Config(data=folder[0], output_dir=tmp_path, segmenter="classical"))
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    assert sheet.shape[0] >= 2 * 192 and sheet.shape[1] >= 8 * 192  # ten cells, eight in a row, enlarged twice
    assert (sheet == (255, 255, 255)).all(2).sum() > 500  # nuclei in white


def test_limit_draws_the_same_images_for_the_same_seed(script, folder, tmp_path):
    keys = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        script.main(
            script.Config(data=folder[0], output_dir=tmp_path / name, segmenter="classical", limit=5, seed=seed)
        )
        keys.append([row["sample_key"] for row in read(tmp_path / name / "measures.csv")[1]])
    assert len(keys[0]) == 5 and keys[0] == keys[1] != keys[2]


def test_moa_probability_of_the_applied_compound(script, folder, tmp_path):
    path, images, _ = folder
    classifier = MoAClassifier(SyntheticCells.moas).eval()
    with torch.no_grad():
        classifier.head.bias.copy_(torch.linspace(0, 2, len(classifier.moas)))
    classifier.save_pretrained(tmp_path / "weights" / "classifier.safetensors")
    config = script.Config(data=path, output_dir=tmp_path, segmenter="classical", classifier=tmp_path / "weights")
    script.main(config)
    rows = read(tmp_path / "measures.csv")[1]
    with torch.no_grad():
        expected = classifier((images * 127.5 + 127.5).round() / 127.5 - 1).softmax(1)
    for row, probability in zip(rows, expected, strict=True):
        if row["state"] == "1":
            chosen = probability[classifier.moas.index(row["moa"])].item()
            assert float(row["moa_probability"]) == pytest.approx(chosen, rel=1e-3)
        else:
            assert row["moa_probability"] == ""


def test_bad_input_leaves_nothing_behind(script, folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="df_all"):
        script.main(script.Config(data=tmp_path, output_dir=tmp_path / "out"))
    with pytest.raises(ValueError, match="limit must be at least 1"):
        script.main(script.Config(data=folder[0], output_dir=tmp_path / "out", limit=0))
    with pytest.raises(FileNotFoundError, match="no weights at"):
        config = script.Config(
            data=folder[0], output_dir=tmp_path / "out", segmenter="classical", classifier=tmp_path / "x"
        )
        script.main(config)
    assert not (tmp_path / "out").exists()

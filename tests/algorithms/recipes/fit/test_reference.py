import pytest

from algorithms.cli import run
from algorithms.recipes.fit.reference import PRESETS
from algorithms.recipes.fit.reference_fitting import draw_rows
from cellenv.data.synthetic import SyntheticCells
from cellenv.weights_io import digest
from rewards.measures import measure
from rewards.reference import Reference
from rewards.segmentation import EmbeddedSegmenter


def test_the_smoke_run_writes_statistics_and_shows_them(tmp_path, capsys):
    output = tmp_path / "reference.json"
    run("fit", "reference", args=["--preset", "smoke", "--output", str(output)])
    reference = Reference.load(output)
    assert reference.populations == SyntheticCells.moas
    assert reference.about["segmenter"] == digest(EmbeddedSegmenter.shipped)
    assert int(reference.count.sum()) == reference.about["images"] == 96
    cells = SyntheticCells()
    rows = draw_rows(cells, PRESETS["smoke"])
    own = rows[cells.compound_moa[cells.perturbation[rows]] == 3]
    areas = measure(EmbeddedSegmenter.from_pretrained()(cells.images(own)))["cell_area_max"]
    assert len(own) == reference.count[3] and reference.mean["cell_area_max"][3] == pytest.approx(areas.mean().item())
    assert "Eg5 inhibitors" in capsys.readouterr().out


def test_the_segmenter_is_a_short_flag_and_a_dry_run_writes_nothing(tmp_path, capsys):
    output = tmp_path / "reference.json"
    flags = ["--preset", "smoke", "--segmenter", "classical", "--limit", "4", "--output", str(output), "--dry-run"]
    run("fit", "reference", args=flags)
    printed = capsys.readouterr().out
    assert "segmentation.segmenter = classical" in printed and "network function evaluations  0" in printed
    assert not output.exists()

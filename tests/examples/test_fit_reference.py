from dataclasses import replace

import pytest
import torch

from cellenv.checkpoints import digest
from cellenv.data.synthetic import SyntheticCells
from rewards.measures import measure
from rewards.reference import Reference
from rewards.segmentation import EmbeddedSegmenter, Masks


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import fit_reference

    return fit_reference


def test_measures_of_rows_do_not_depend_on_the_batch(script):
    """Batches are joined in order: the truth masks of five rows, two at a time."""
    data, rows = SyntheticCells("test"), torch.tensor([7, 900, 3, 400, 11])
    handed = iter(rows.split(2))

    def truth(images, channels):
        assert channels == data.channels
        return Masks(*data.masks(next(handed)))

    got = script.measure_rows(data, rows, truth, batch=2)
    for name, value in measure(Masks(*data.masks(rows))).items():
        torch.testing.assert_close(got[name], value, equal_nan=True)


def test_smoke_run_writes_statistics_and_shows_them(script, tmp_path, capsys):
    output = tmp_path / "reference.json"
    script.main(replace(script.PRESETS["smoke"], output=output))
    reference = Reference.load(output)
    assert reference.moas == SyntheticCells.moas
    assert reference.about["segmenter"] == digest(EmbeddedSegmenter.shipped)
    assert int(reference.count.sum()) == reference.about["images"] == script.PRESETS["smoke"].limit
    assert "Eg5 inhibitors" in capsys.readouterr().out


def test_few_cells_are_refused_before_anything_is_written(script, tmp_path):
    output = tmp_path / "reference.json"
    with pytest.raises(ValueError, match="need 90 images of each MoA"):
        script.main(script.Config(output=output, limit=96, min_cells=90))
    assert not output.exists()

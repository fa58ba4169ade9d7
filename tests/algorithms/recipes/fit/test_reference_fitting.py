from dataclasses import replace

import pytest
import torch

from algorithms.config import SegmenterConfig
from algorithms.recipes.fit import reference_fitting
from algorithms.recipes.fit.reference import ReferenceConfig
from algorithms.recipes.fit.reference_fitting import (
    condition_of,
    draw_rows,
    estimate_fit,
    fit_reference,
    measure_rows,
    populations_of,
)
from cellenv.data.synthetic import SyntheticCells
from rewards.measures import measure
from rewards.segmentation import Masks
from tests.algorithms.recipes.base_toys import FewCells

CLASSICAL = SegmenterConfig(segmenter="classical")


def test_measures_of_rows_do_not_depend_on_the_batch_size(data):
    """Batches are joined in order: true masks of five rows, two at a time."""
    rows = torch.tensor([7, 900, 3, 400, 11])
    batches = iter(rows.split(2))

    def truth(images, channels):
        assert channels == data.channels
        return Masks(*data.masks(next(batches)))

    measures = measure_rows(data, rows, truth, batch_size=2)
    for name, value in measure(Masks(*data.masks(rows))).items():
        torch.testing.assert_close(measures[name], value, equal_nan=True)


def test_rows_are_random_treated_images_up_to_the_limit():
    cells = FewCells()
    first, again = (draw_rows(cells, ReferenceConfig(limit=10)) for _ in range(2))
    assert first.equal(again) and len(first.unique()) == 10 and (cells.perturbation[first] >= 0).all()
    assert not first.equal(draw_rows(cells, ReferenceConfig(limit=10, seed=1)))
    assert draw_rows(cells, ReferenceConfig()).sort().values.equal(cells.treated)


def test_statistics_are_by_mechanism_or_compound_or_of_controls(monkeypatch):
    cells = FewCells()
    moa, names = populations_of(cells, draw_rows(cells, ReferenceConfig(limit=30)), "moa")
    assert set(moa.tolist()) <= {0, 1} and names == cells.moas
    some = cells.treated[cells.perturbation[cells.treated] == 1][:3]
    ids, names = populations_of(cells, some, "compound")
    assert ids.tolist() == [0, 0, 0] and names == [cells.compounds[1]]
    untreated = ReferenceConfig(by="controls", limit=5)
    rows = draw_rows(cells, untreated)
    assert len(rows) == 5 and (cells.perturbation[rows] < 0).all()
    assert populations_of(cells, rows, "controls")[0].tolist() == [0] * 5
    assert condition_of(cells, ReferenceConfig()) == "moa"
    monkeypatch.setattr(FewCells, "moas", ())
    assert condition_of(cells, ReferenceConfig()) == "compound" and condition_of(cells, untreated) == "controls"
    with pytest.raises(ValueError, match="no mechanisms of action"):
        condition_of(cells, ReferenceConfig(by="moa"))


def test_too_few_cells_are_refused_before_anything_is_written(tmp_path):
    output = tmp_path / "reference.json"
    with pytest.raises(ValueError, match="need 90 images of each MoA"):
        fit_reference(ReferenceConfig(output=output, limit=12, min_cells=90, segmentation=CLASSICAL))
    assert not output.exists()


def test_the_estimate_scales_with_the_images(monkeypatch):
    monkeypatch.setattr(reference_fitting, "seconds_of", lambda work: 1.0)  # of a batch
    config = ReferenceConfig(limit=40, batch_size=10, segmentation=CLASSICAL)
    assert estimate_fit(config)[:2] == (0, 4)
    assert estimate_fit(replace(config, limit=80)).seconds == 8
    assert estimate_fit(replace(config, limit=None)).seconds == len(SyntheticCells().treated) / 10

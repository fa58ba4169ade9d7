from dataclasses import replace

import pytest
import torch

from algorithms.config import SegmenterConfig
from algorithms.recipes.fit import reference_fitting
from algorithms.recipes.fit.reference import ReferenceConfig
from algorithms.recipes.fit.reference_fitting import draw_rows, estimate_fit, fit_reference, measure_rows
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

"""The embedded world: reproducible pixels, masks that agree with the pixels, the shape of BBBC021."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from cellenv.data.synthetic import SyntheticCells
from cellenv.images import to_uint8

# of images and masks; a change needs a line in the changelog
RECORD = Path(__file__).with_name("synthetic_blocks.npz")  # by `python -m tests.cellenv.data.test_synthetic`


@pytest.fixture(scope="module")
def cells():
    return SyntheticCells("test")


def test_same_seed_same_pixels_whatever_was_rendered_before(cells):
    fresh = SyntheticCells("test")
    rows = torch.tensor([5, 700, 1100])
    fresh.images(torch.tensor([699, 4]))
    assert torch.equal(fresh.images(rows), cells.images(rows))
    assert not torch.equal(SyntheticCells("test", seed=1).images(rows), cells.images(rows))
    assert not torch.equal(SyntheticCells("validation").images(rows[:1]), cells.images(rows[:1]))


def test_pixels_are_the_recorded_ones(cells):
    """Up to rounding: processors differ in the last digit of an exponential, here by one grey level in one pixel."""
    recorded, found = np.load(RECORD), block_means(cells)
    for name, tolerance in {"pixels": 0.02, "covered": 0.4}.items():
        np.testing.assert_allclose(found[name], recorded[name], rtol=0, atol=tolerance, err_msg=name)


def block_means(cells):
    """Grey levels, and areas of nuclei and cells in percent, in 24 x 24 px blocks of eight images."""
    rows = torch.arange(0, 1040, 130)
    covered = 100.0 * (torch.stack(cells.masks(rows), 1) > 0)
    blocks = {"pixels": to_uint8(cells.images(rows)).float(), "covered": covered}
    return {name: avg_pool2d(value, 24).numpy() for name, value in blocks.items()}


def test_another_process_gets_the_seed_and_not_the_pixels(cells):
    rows = torch.tensor([2, 900])
    expected = cells.images(rows), *cells.masks(rows)
    sent = pickle.dumps(cells)
    assert len(sent) < 500_000
    received = pickle.loads(sent)
    assert all(torch.equal(a, b) for a, b in zip((received.images(rows), *received.masks(rows)), expected, strict=True))


def test_truth_masks_lie_on_the_stain(cells):
    """DNA is bright inside true nuclei and dark outside; nuclei lie in cells; each crop is centred on a nucleus."""
    rows = torch.arange(0, 1040, 20)
    dna = cells.images(rows)[:, cells.channels.index("DNA")]
    nuclei, bodies = cells.masks(rows)
    inside = torch.stack([image[mask > 0].mean() for image, mask in zip(dna, nuclei, strict=True)])
    outside = torch.stack([image[mask == 0].mean() for image, mask in zip(dna, nuclei, strict=True)])
    assert (inside > outside + 0.3).all()
    assert (bodies[nuclei > 0] > 0).all()
    middle = (nuclei[:, 36:60, 36:60] > 0).flatten(1).any(1)
    assert middle.all()


def test_split_sizes_compounds_and_controls(cells):
    assert len(cells.compounds) == 34 and len(cells.moas) == 12 and cells.conditions.shape == (34, 64)
    seen = torch.bincount(cells.perturbation[cells.treated], minlength=34)
    assert (seen[:26] == 40).all() and (seen[26:] == 0).all()
    unseen = SyntheticCells("test", unseen=True)
    assert set(unseen.perturbation[unseen.treated].tolist()) == set(range(26, 34))
    assert torch.equal(unseen.conditions, cells.conditions)
    assert len(set(cells.keys)) == len(cells)


def test_compounds_lie_on_four_plates_and_every_plate_has_controls(cells):
    for compound in range(26):
        assert len(cells.plate[cells.perturbation == compound].unique()) == 4
    assert torch.bincount(cells.plate[cells.controls]).tolist() == [40] * 12


def test_compounds_of_one_mechanism_have_alike_conditions(cells):
    alike = torch.corrcoef(cells.conditions)
    same = cells.compound_moa[:, None] == cells.compound_moa
    off = ~torch.eye(34, dtype=bool)
    assert alike[same & off].mean() == pytest.approx(0.7, abs=0.1) and alike[~same].abs().mean() < 0.2


def test_a_split_can_be_drawn_larger():
    larger = SyntheticCells("test", treated=80)
    assert torch.bincount(larger.perturbation[larger.treated]).tolist() == [80] * 26
    assert torch.equal(larger.conditions, SyntheticCells("test").conditions)
    with pytest.raises(ValueError, match="treated >= 1"):
        SyntheticCells("test", treated=0)


def test_a_larger_split_begins_with_the_images_of_the_smaller(cells):
    larger = SyntheticCells("test", treated=80)
    for compound in (-1, 0, 25):  # controls too
        few = (cells.perturbation == compound).nonzero().flatten()[:3]
        many = (larger.perturbation == compound).nonzero().flatten()[:3]
        assert torch.equal(cells.images(few), larger.images(many))


def test_two_draws_share_plates_and_conditions_but_no_image(cells):
    other = SyntheticCells("test", draw=1)
    assert torch.equal(other.conditions, cells.conditions) and torch.equal(other.plate, cells.plate)
    assert not set(other.keys) & set(cells.keys)
    rows = torch.cat([(cells.perturbation == p).nonzero().flatten()[:6] for p in (-1, 0, 1, 25)])
    pixels = torch.cat([cells.images(rows), other.images(rows)]).flatten(1)
    assert len(pixels.unique(dim=0)) == 2 * len(rows)
    with pytest.raises(ValueError, match="draw >= 0, got -1"):
        SyntheticCells("test", draw=-1)


def test_every_dose_stands_on_every_plate_of_a_compound(cells):
    rows = cells.perturbation == 3
    pairs = set(zip(cells.plate[rows].tolist(), cells.dose[rows].tolist(), strict=True))
    assert len(pairs) == 4 * 4


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of train, validation, test; got 'val'"):
        SyntheticCells("val")


if __name__ == "__main__":
    np.savez_compressed(RECORD, **block_means(SyntheticCells("test")))

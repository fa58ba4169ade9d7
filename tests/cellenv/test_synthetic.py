"""The embedded world: reproducible pixels, truth that agrees with the pixels, the shape of BBBC021."""

import hashlib
from math import pi

import numpy as np
import pytest
import torch

from cellenv.data.phenotypes import MECHANISMS, UNTREATED, blend
from cellenv.data.rendering import Optics, render
from cellenv.data.scene import ANGLES, THETA, draw_scene, ellipse
from cellenv.data.synthetic import SyntheticCells

# sha256 of the first pixels of every split; changes only with the world itself, and then with a line in the changelog
GOLDEN = "4dd06e6ff74b83a750fb4d2a56f69f69d737f59fbfe4ebef23e896161ea49520"


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
    rows = torch.arange(0, 1040, 130)
    pixels = ((cells.images(rows) + 1) * 127.5).round().to(torch.uint8).numpy()
    labels = torch.stack(cells.masks(rows)).to(torch.uint8).numpy()
    assert hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest() == GOLDEN


def test_every_channel_is_stretched_to_the_full_range(cells):
    images = cells.images(torch.arange(0, 400, 40))
    assert torch.equal(images.amin((2, 3)), -torch.ones(10, 3)) and torch.equal(images.amax((2, 3)), torch.ones(10, 3))


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


def test_a_context_pairs_a_control_of_the_same_plate(cells):
    rng = torch.Generator().manual_seed(0)
    batch = cells.batch[cells.draw_treated(200, rng)]
    controls = cells.draw_controls(batch, rng)
    assert torch.equal(cells.batch[controls], batch) and (cells.perturbation[controls] == -1).all()
    assert len(set(controls.tolist())) > 100
    context = cells.draw_contexts(3, rng)
    assert torch.equal(context["condition"], cells.conditions[context["perturbation"]])
    assert torch.equal(context["moa"], cells.compound_moa[context["perturbation"]])


def test_compounds_of_one_mechanism_have_alike_conditions(cells):
    alike = torch.corrcoef(cells.conditions)
    same = cells.compound_moa[:, None] == cells.compound_moa
    off = ~torch.eye(34, dtype=bool)
    assert alike[same & off].mean() > 0.5 and alike[~same].abs().mean() < 0.2


def test_phenotypes_follow_the_biology(cells):
    """Nuclei of DNA damage are larger, and its cells fewer, than under protein synthesis inhibitors."""

    def truth(moa: str):
        look, areas, counts = MECHANISMS[moa], [], []
        for k in range(30):
            rng = np.random.default_rng((7, k))
            _, nuclei, bodies = render(draw_scene(look, 96, rng), look, Optics(), 96, rng)
            areas.append(np.bincount(nuclei.ravel())[1:].max())
            counts.append(len(np.unique(bodies)) - 1)
        return np.mean(areas), np.mean(counts)

    large, few = truth("DNA damage")
    small, many = truth("Protein synthesis")
    assert large > 1.5 * small and many > 1.5 * few


def test_ellipse_has_the_area_of_its_radius():
    outline = ellipse(10.0, 1.8, 0.4)
    assert np.isclose(0.5 * (outline**2).sum() * 2 * pi / ANGLES, pi * 100, rtol=1e-6)
    assert np.isclose(outline.max() / outline.min(), 1.8, rtol=2e-2) and abs(THETA[outline.argmax()] % pi - 0.4) < 0.05


def test_blend_runs_from_untreated_to_the_full_effect():
    full = MECHANISMS["DNA damage"]
    assert blend(full, 0.0) == UNTREATED
    assert blend(full, 1.0).nucleus_radius == pytest.approx(full.nucleus_radius)
    assert blend(full, 5.0).neighbours == 0.0


def test_errors_name_what_is_needed(cells):
    with pytest.raises(ValueError, match="split must be one of train, validation, test; got 'val'"):
        SyntheticCells("val")
    with pytest.raises(ValueError, match="unknown compound 'aspirin'; this data set has cytochalasin B"):
        cells.compound_id("aspirin")
    with pytest.raises(ValueError, match="treated rows"):
        cells.contexts(cells.controls[:1], torch.Generator())


def test_a_split_can_be_drawn_larger():
    larger = SyntheticCells("test", treated=80)
    assert torch.bincount(larger.perturbation[larger.treated]).tolist() == [80] * 26
    assert torch.equal(larger.conditions, SyntheticCells("test").conditions)
    with pytest.raises(ValueError, match="treated >= 1"):
        SyntheticCells("test", treated=0)

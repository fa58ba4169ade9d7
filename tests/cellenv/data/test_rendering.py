"""Labels and stains of synthetic crops, on scenes that are drawn by hand."""

from dataclasses import replace
from math import pi

import numpy as np
import pytest

from cellenv.data.phenotypes import UNTREATED, Phenotype
from cellenv.data.rendering import Optics, render
from cellenv.data.scene import ANGLES, Scene, draw_scene
from cellenv.images import CHANNELS

CLEAN = Optics(blur=0.4, noise=0, shot=0, haze=0)
FLAT = Phenotype(dna_texture=0)


def round_cells(centres, radius, nucleus=8.0):
    """Round cells, each with a round nucleus in its centre."""
    k = len(centres)
    return Scene(
        cell_centre=np.array(centres, np.float32),
        cell_outline=np.full((k, ANGLES), radius, np.float32),
        cell_direction=np.zeros(k, np.float32),
        cell_light=np.ones((k, 2), np.float32),
        cell_soft=np.ones(k, np.float32),
        cell_mitotic=np.zeros(k, bool),
        nucleus_cell=np.arange(k),
        nucleus_centre=np.array(centres, np.float32),
        nucleus_outline=np.full((k, ANGLES), nucleus, np.float32),
        nucleus_light=np.ones(k, np.float32),
    )


def rendered(scene, optics=CLEAN, phenotype=UNTREATED, seed=0):
    return render(scene, phenotype, optics, 96, np.random.default_rng(seed))


def test_labels_have_the_area_of_their_outlines():
    _, nuclei, cells = rendered(round_cells([(48, 48)], 20))
    assert (cells == 1).sum() == pytest.approx(pi * 400, rel=0.02)
    assert (nuclei == 1).sum() == pytest.approx(pi * 64, rel=0.04)
    centre = np.argwhere(cells > 0).mean(0)
    np.testing.assert_allclose(centre, 47.5, atol=0.1)  # pixel i spans i .. i + 1


def test_equal_cells_share_their_overlap_by_the_bisector():
    _, _, cells = rendered(round_cells([(48, 36), (48, 60)], 20))
    assert set(np.unique(cells)) == {0, 1, 2}
    assert (np.argwhere(cells == 1)[:, 1] <= 47).all() and (np.argwhere(cells == 2)[:, 1] >= 48).all()


def test_a_nucleus_does_not_leave_its_cell():
    scene = replace(round_cells([(48, 36), (48, 60)], 20), nucleus_centre=np.array([[48, 45], [48, 60]], np.float32))
    _, nuclei, cells = rendered(scene)
    assert (cells[nuclei == 1] == 1).all() and (cells[nuclei == 2] == 2).all() and (nuclei == 1).any()


def test_each_stain_lies_where_it_belongs():
    image, nuclei, cells = rendered(round_cells([(48, 48)], 24))
    dna = image[CHANNELS.index("DNA")].astype(float)
    assert dna[nuclei > 0].mean() > 10 * dna[nuclei == 0].mean()
    for name in ("actin", "tubulin"):
        stain = image[CHANNELS.index(name)].astype(float)
        assert stain[(cells > 0) & (nuclei == 0)].mean() > 10 * stain[cells == 0].mean()


def test_every_channel_is_stretched_to_the_full_range():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        image, *_ = render(draw_scene(UNTREATED, 96, rng), UNTREATED, Optics(), 96, rng)
        assert (
            image.dtype == np.uint8
            and image.min((1, 2)).tolist() == [0] * 3
            and image.max((1, 2)).tolist() == [255] * 3
        )


def test_blur_widens_the_edges():
    scene, dna = round_cells([(48, 48)], 30, nucleus=20), CHANNELS.index("DNA")
    sharp, blurred = (rendered(scene, replace(CLEAN, blur=sigma), FLAT)[0][dna] / 255 for sigma in (0.4, 3.0))
    width = [((image > 0.2) & (image < 0.8)).sum() / (2 * pi * 20) for image in (sharp, blurred)]
    normal = 2 * 0.84 * 3.0  # 20 to 80 % of a normal distribution
    assert width[0] < 2.5 and width[1] == pytest.approx(normal, rel=0.15)


def test_read_noise_is_relative_to_the_brightest_pixel():
    scene = round_cells([(48, 48)], 24)
    background = (slice(None), slice(0, 12), slice(0, 12))
    assert rendered(scene)[0][background].std() < 1
    noisy = rendered(scene, replace(CLEAN, noise=0.05))[0]
    assert noisy[background].std() / 255 == pytest.approx(0.05 / 1.2, rel=0.2)  # the range is wider by the noise


def test_haze_lights_the_surroundings_and_slope_the_far_side():
    scene = round_cells([(48, 48)], 20)
    ring = np.hypot(*(np.indices((96, 96)) - 47.5)) // 1 == 26
    assert rendered(scene, replace(CLEAN, haze=0.5))[0][:, ring].mean() > rendered(scene)[0][:, ring].mean() + 5
    sloped = rendered(scene, replace(CLEAN, slope=(0.3, 0.0)))[0].astype(float)
    assert (sloped[:, -5:].mean((1, 2)) > sloped[:, :5].mean((1, 2)) + 20).all()


def test_gamma_acts_on_the_stretched_image():
    scene = round_cells([(48, 48)], 20)
    plain, dark = rendered(scene)[0] / 255, rendered(scene, replace(CLEAN, gamma=2.0))[0] / 255
    np.testing.assert_allclose(dark, plain**2, atol=2.5 / 255)


def test_a_texture_that_is_asked_for_shows():
    scene = round_cells([(48, 48)], 30)
    smooth, rough = (rendered(scene, phenotype=Phenotype(dna_texture=texture)) for texture in (0.0, 0.6))
    dna, inside = CHANNELS.index("DNA"), np.hypot(*(np.indices((96, 96)) - 47.5)) < 5
    assert rough[0][dna][inside].std() > 3 * smooth[0][dna][inside].std()
    assert np.array_equal(smooth[1], rough[1])

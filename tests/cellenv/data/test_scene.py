"""Geometry of the synthetic crops: closed forms of outlines, and where cells and nuclei lie."""

from math import pi

import numpy as np
import pytest

from cellenv.data.phenotypes import Phenotype
from cellenv.data.scene import ANGLES, THETA, bumpy, draw_scene, ellipse, spiky

CIRCLE = np.full(ANGLES, 10.0)


def area(outline):
    return 0.5 * (outline**2).sum() * 2 * pi / ANGLES


def test_ellipse_has_the_area_of_its_radius():
    outline = ellipse(10.0, 1.8, 0.4)
    assert area(outline) == pytest.approx(pi * 100, rel=1e-6)
    assert outline.max() / outline.min() == pytest.approx(1.8, rel=2e-2)
    assert THETA[outline.argmax()] % pi == pytest.approx(0.4, abs=0.05)


def test_bumps_have_the_given_rms_and_leave_the_mean_radius():
    waves = np.stack([bumpy(CIRCLE, 0.1, np.random.default_rng(seed)) / 10 - 1 for seed in range(500)])
    assert np.sqrt((waves**2).mean()) == pytest.approx(0.1, rel=0.05)
    assert np.abs(waves.mean(1)).max() < 1e-3


def test_spikes_only_protrude_and_at_most_by_their_length():
    for seed in range(20):
        spikes = spiky(CIRCLE, 0.5, np.random.default_rng(seed)) / 10
        assert spikes.min() >= 1 and 1.01 < spikes.max() <= 1.5
        assert np.median(spikes) < 1.05  # thin


def test_without_neighbours_there_is_one_cell_in_the_middle():
    for seed in range(20):
        scene = draw_scene(Phenotype(neighbours=0, dying=0, mitotic=1), 96, np.random.default_rng(seed))
        assert scene.cell_centre.shape == (1, 2) and np.abs(scene.cell_centre - 48).max() < 10


@pytest.mark.parametrize(("extra", "count"), [(0, 1), (20, 3)])
def test_extra_nuclei_lie_apart_in_their_cell(extra, count):
    phenotype = Phenotype(neighbours=0, dying=0, mitotic=0, extra_nuclei=extra)
    for seed in range(20):
        scene = draw_scene(phenotype, 96, np.random.default_rng(seed))
        assert scene.nucleus_cell.tolist() == [0] * count
        assert np.hypot(*(scene.nucleus_centre - scene.cell_centre[0]).T).max() < scene.cell_outline.max()
        away = scene.nucleus_centre[:, None] - scene.nucleus_centre
        distance = np.hypot(away[..., 0], away[..., 1])[~np.eye(count, dtype=bool)]
        assert (distance > 0.9 * scene.nucleus_outline.mean()).all()


def test_cells_overlap_no_more_than_allowed():
    """Mitotic cells are centred on their origin, so that the distances can be read off."""
    counts = []
    for seed in range(30):
        scene = draw_scene(Phenotype(neighbours=6, dying=0, mitotic=1), 96, np.random.default_rng(seed))
        radius = scene.cell_outline.mean(1)
        away = scene.cell_centre[:, None] - scene.cell_centre
        distance = np.hypot(away[..., 0], away[..., 1])[~np.eye(len(radius), dtype=bool)]
        allowed = 0.72 * (radius[:, None] + radius)[~np.eye(len(radius), dtype=bool)]
        assert (distance > allowed - 1e-3).all()
        counts.append(len(radius))
    assert 3 < np.mean(counts) < 7.6 and scene.cell_mitotic.all()


def test_the_same_stream_draws_the_same_scene():
    first, second = (draw_scene(Phenotype(), 96, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))
    assert {value.dtype.name for value in vars(first).values()} == {"float32", "bool", "int64"}

import numpy as np
import pytest

from cellenv.data.phenotypes import MECHANISMS, SEEN, UNSEEN, UNTREATED, blend
from cellenv.data.rendering import Optics, render
from cellenv.data.scene import draw_scene


def test_blend_runs_from_untreated_to_the_full_effect():
    full = MECHANISMS["DNA damage"]
    assert blend(full, 0.0) == UNTREATED
    assert blend(full, 1.0).nucleus_radius == pytest.approx(full.nucleus_radius)
    assert blend(full, 0.5).nucleus_radius == pytest.approx((full.nucleus_radius + UNTREATED.nucleus_radius) / 2)
    assert blend(full, 5.0).neighbours == 0.0


def test_every_compound_has_one_mechanism():
    assert SEEN.keys() == MECHANISMS.keys() and UNSEEN.keys() <= MECHANISMS.keys()
    seen, unseen = ([name for names in table.values() for name in names] for table in (SEEN, UNSEEN))
    assert (len(seen), len(unseen), len({*seen, *unseen})) == (26, 8, 34)


def test_phenotypes_follow_the_biology():
    """Nuclei of DNA damage are larger, and its cells fewer, than under protein synthesis inhibitors."""

    def truth(moa):
        phenotype, areas, counts = MECHANISMS[moa], [], []
        for k in range(30):
            rng = np.random.default_rng((7, k))
            _, nuclei, bodies = render(draw_scene(phenotype, 96, rng), phenotype, Optics(), 96, rng)
            areas.append(np.bincount(nuclei.ravel())[1:].max())
            counts.append(len(np.unique(bodies)) - 1)
        return np.mean(areas), np.mean(counts)

    large, few = truth("DNA damage")
    small, many = truth("Protein synthesis")
    assert large > 1.5 * small and many > 1.5 * few

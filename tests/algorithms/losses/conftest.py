import pytest

from tests.algorithms.matching_toys import SHAPE, draw


@pytest.fixture
def velocities():
    """Three velocities, (B, C, H, W) each: theta's, that of the old weights or the base, and the target."""
    return draw(*SHAPE, seed=1), draw(*SHAPE, seed=2), draw(*SHAPE, seed=3)

import numpy as np
import pytest

from cellenv.data.prepare.crops import CropRules, cut_out, own_pixels
from cellenv.data.prepare.nuclei import measure_nuclei
from tests.cellenv.data.prepare.plate_toys import disks

SHAPE = (100, 120)
CENTRES = [(50, 40), (50, 70)]


@pytest.fixture
def field():
    ramp = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE) / (SHAPE[0] * SHAPE[1])
    return np.stack([ramp, 1.5 * ramp - 0.1])


@pytest.fixture
def found():
    return measure_nuclei(sum((k + 1) * disks(SHAPE, [c], 8).astype(np.int32) for k, c in enumerate(CENTRES)))


def rules(stretch="plate", neighbours="keep"):
    return CropRules(size=32, stretch=stretch, neighbours=neighbours)


def test_a_crop_keeps_the_scale_of_the_plate(field, found):
    crops = cut_out(field, found, [1], rules())
    assert crops.shape == (1, 32, 32, 2) and crops.dtype == np.uint8
    window = field[:, 34:66, 54:86].transpose(1, 2, 0)
    np.testing.assert_array_equal(crops[0], np.rint(255 * window.clip(0, 1)))


def test_a_crop_may_be_stretched_by_itself(field, found):
    crops = cut_out(field, found, [0, 1], rules(stretch="crop"))
    assert (crops.min((1, 2)) == 0).all() and (crops.max((1, 2)) == 255).all()


def test_neighbours_may_be_masked(field, found):
    kept, masked = (cut_out(field, found, [1], rules(neighbours=n))[0] for n in ("keep", "mask"))
    assert (masked[:, 2:] == kept[:, 2:]).all() and (masked[:, 0] == 0).all() and kept[:, 0].any()


def test_pixels_belong_to_the_nearest_nucleus():
    labels = np.zeros((5, 11), np.int32)
    labels[2, 1], labels[2, 9] = 4, 6
    assert own_pixels(labels, 4, 0, 0, 5).all() and not own_pixels(labels, 4, 0, 6, 5).any()
    assert own_pixels(labels, 6, 0, 3, 5).tolist() == [[False] * 3 + [True] * 2] * 5


def test_no_nucleus_gives_no_crop(field, found):
    assert cut_out(field, found, [], rules()).shape == (0, 32, 32, 2)

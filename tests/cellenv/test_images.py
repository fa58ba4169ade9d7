import pytest
import torch

from cellenv.images import from_uint8, to_uint8

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_bytes_survive_the_round_trip():
    assert torch.equal(to_uint8(from_uint8(LEVELS)), LEVELS)


def test_bytes_become_x_over_127_5_minus_1_exactly():
    before = LEVELS.clone()
    images = from_uint8(LEVELS)
    assert images.dtype == torch.float32 and torch.equal(images, LEVELS.float() / 127.5 - 1)
    assert torch.equal(LEVELS, before)


@pytest.mark.parametrize("shift", [-0.49, 0.0, 0.49])
def test_images_become_the_nearest_level(shift):
    images = (LEVELS.double() + shift) / 127.5 - 1
    assert torch.equal(to_uint8(images), LEVELS)


def test_values_outside_are_clamped():
    assert to_uint8(torch.tensor([-3.0, -1.01, 1.01, 2.0])).tolist() == [0, 0, 255, 255]


def test_only_bytes_are_converted_to_images():
    with pytest.raises(ValueError, match=r"need uint8 values 0 to 255; got torch\.float32"):
        from_uint8(torch.zeros(2, 3))

import pytest
import torch

from rewards.shaping import clipped_square, dead_zone, square

Z = torch.tensor([-7.0, -5.0, -1.0, 0.0, 0.5, 2.0, torch.nan], dtype=torch.float64)


@pytest.mark.parametrize(
    ("shaping", "expected"),
    [
        (square, [-49, -25, -1, 0, -0.25, -4, torch.nan]),
        (clipped_square, [-25, -25, -1, 0, -0.25, -4, torch.nan]),
        (dead_zone, [-16, -16, 0, 0, 0, -1, torch.nan]),
    ],
)
def test_shapings_have_their_closed_form(shaping, expected):
    torch.testing.assert_close(shaping(Z), torch.as_tensor(expected, dtype=Z.dtype), equal_nan=True)

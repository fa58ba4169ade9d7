import pytest
import torch

from cellenv.data.augment import dequantise, mirror
from cellenv.images import from_uint8


def test_mirrors_act_on_their_own_axis():
    x = torch.rand(4, 1, 2, 3)
    out = mirror(x, torch.tensor([[False, True, False, True], [False, False, True, True]]))
    for row, axes in enumerate([(), (1,), (2,), (1, 2)]):
        assert torch.equal(out[row], x[row].flip(axes))


def test_dequantised_bytes_fill_the_gap_to_the_next():
    x = from_uint8(torch.tensor([0, 1, 254, 255], dtype=torch.uint8)).reshape(1, 1, 2, 2)
    torch.testing.assert_close(dequantise(x, torch.zeros_like(x)), x)
    torch.testing.assert_close(
        dequantise(x, torch.ones_like(x)).flatten()[:3:2], x.flatten()[1::2]
    )  # 0 -> 1, 254 -> 255
    u = torch.tensor([0.25, 0.5, 0.75, 0.9]).reshape_as(x)
    literal = (torch.tensor([0, 1, 254, 255]).reshape_as(x) + u) / 255 * 2 - 1  # (X + u) / 255, then to [-1, 1]
    torch.testing.assert_close(dequantise(x, u), literal)


def test_one_number_for_all_pixels_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 1, 3, 3\).*\(2,\)"):
        dequantise(torch.zeros(2, 1, 3, 3), torch.zeros(2))

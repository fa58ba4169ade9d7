import pytest
import torch

from cellenv.checks import check_images, check_pixels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_images_within_bounds_pass_in_any_precision(dtype):
    check_images(torch.linspace(-1, 1, 96).reshape(2, 3, 4, 4).to(dtype), (3, 4, 4), "x0")
    check_images(torch.zeros(0, 3, 4, 4, dtype=dtype), (3, 4, 4), "x0")


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_pixel_may_lie_beyond_by_what_rounding_does_and_no_more(sign):
    check_pixels(sign * torch.tensor([0.3, 1.0009]), "x0")
    with pytest.raises(ValueError, match=r"x0 needs values in \[-1, 1\]; got .*clamp or rescale"):
        check_pixels(sign * torch.tensor([0.3, 1.0011]), "x0")


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinite_pixels_are_counted(strange):
    with pytest.raises(
        ValueError, match=r"action needs finite values .*; 2 of 96 are nan or infinite, the first in image 1$"
    ):
        check_pixels(torch.tensor([*[0.1] * 60, strange, *[0.1] * 34, strange]).reshape(2, 3, 4, 4), "action")

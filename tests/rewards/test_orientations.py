"""Orientations of an image, and a classifier averaged over them."""

import torch
from torch import nn

from rewards.orientations import AveragedOverOrientations, orient, orientations


class Corner(nn.Module):
    """Logits (0, 5 x): x is the upper left pixel of the first channel, which differs between orientations."""

    def forward(self, images):
        x = images[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(x), 5 * x], 1)


def drawn(*shape):
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 1


def test_the_eight_orientations_of_the_square():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    found = [tuple(view.flatten().tolist()) for view in orientations(x)]
    assert found[0] == (0, 1, 2, 3) and len(set(found)) == 8
    assert all(abs(a - d) == 3 or abs(b - c) == 3 for a, b, c, d in found)  # 0 and 3 stay opposite


def test_oblong_images_are_not_turned_by_a_quarter():
    found = orientations(drawn(2, 3, 12, 16))
    assert [view.shape for view in found] == [(2, 3, 12, 16)] * 4
    assert all(not a.equal(b) for i, a in enumerate(found) for b in found[:i])


def test_the_probability_is_the_mean_over_the_orientations():
    x = drawn(5, 3, 12, 12)
    expected = torch.stack([Corner()(orient(x, k)).softmax(1) for k in range(8)]).mean(0)
    averaged = AveragedOverOrientations(Corner())
    torch.testing.assert_close(averaged(x).softmax(1), expected)
    torch.testing.assert_close(averaged(orient(x, 5)), averaged(x))
    assert (expected - Corner()(x).softmax(1)).abs().max() > 0.1

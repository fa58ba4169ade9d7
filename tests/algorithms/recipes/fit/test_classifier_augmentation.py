import pytest
import torch

from algorithms.recipes.fit.classifier_augmentation import augment_classifier, augment_judge, blur, random_orientation
from cellenv.streams import rng_at


def test_all_eight_orientations_of_the_square_occur_and_no_other():
    turned = random_orientation(torch.arange(4.0).reshape(1, 1, 2, 2).expand(200, 1, 2, 2), rng_at(0))
    corners = {tuple(image.flatten().tolist()) for image in turned}
    assert len(corners) == 8
    assert all(abs(a - d) == 3 or abs(b - c) == 3 for a, b, c, d in corners)  # 0 and 3 stay opposite


@pytest.mark.parametrize("augment", [augment_classifier, augment_judge])
def test_augmented_images_stay_images_and_depend_on_the_generator_alone(data, augment):
    x = data.images(torch.arange(0, 1040, 65))
    first, again, other = augment(x, rng_at(0)), augment(x, rng_at(0)), augment(x, rng_at(1))
    assert first.equal(again) and not first.equal(other)
    assert first.shape == x.shape
    assert -1 <= first.min() < first.max() <= 1
    assert (first.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs().max() < 0.3


def test_blur_keeps_the_mean_and_spreads_a_point():
    x = torch.zeros(1, 3, 21, 21)
    x[:, :, 10, 10] = 1
    y = blur(x, 1.0)
    torch.testing.assert_close(y.sum((2, 3)), torch.ones(1, 3))
    distance = (torch.arange(21.0) - 10) ** 2
    for axis in (2, 3):  # the variance of each axis is sigma^2
        torch.testing.assert_close((y.sum(axis) * distance).sum(2), torch.ones(1, 3), rtol=0.01, atol=0)

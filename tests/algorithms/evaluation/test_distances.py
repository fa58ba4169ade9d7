import numpy as np
import pytest
import torch

from algorithms.evaluation.distances import diversity, frechet_distance, frechet_resampled, kernel_distance, standardise


def normal(n: int, seed: int, shift: float = 0.0, scale: float = 1.0, features: int = 4) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, features, generator=rng)


def test_frechet_is_the_closed_form_of_two_gaussians():
    # |mu - mu'|^2 + sum (s - s')^2 for diagonal covariances
    assert frechet_distance(normal(20000, 0, 0.5, 2.0), normal(20000, 1)) == pytest.approx(4 * (0.25 + 1), rel=0.03)
    assert frechet_distance(normal(500, 0), normal(500, 0)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(normal(500, 0) + 3, normal(500, 0)) == pytest.approx(4 * 9, rel=1e-9)


def test_frechet_of_a_resample_is_that_of_the_resampled_images():
    for features in (4, 40):  # 40 features of 30 images: singular covariances
        own, real = normal(30, 0, 0.3, 1.5, features), normal(30, 1, features=features)
        index = torch.randint(30, (2, 30), generator=torch.Generator().manual_seed(2))
        counts = torch.stack([torch.ones(30), *(torch.bincount(i, minlength=30).double() for i in index)])
        expected = [frechet_distance(own, real), *(frechet_distance(own[i], real[i]) for i in index)]
        assert frechet_resampled(own, real, counts).tolist() == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_is_the_unbiased_double_sum():
    a, b = normal(6, 0).double(), normal(6, 1, 0.3).double()

    def k(x, y):
        return (float(x @ y) / 4 + 1) ** 3

    inner = [sum(k(s[i], s[j]) for i in range(6) for j in range(6) if i != j) / 30 for s in (a, b)]
    cross = sum(k(a[i], b[j]) for i in range(6) for j in range(6) if i != j) / 30
    assert kernel_distance(a, b) == pytest.approx(sum(inner) - 2 * cross)


def test_kernel_distance_is_zero_on_average_for_one_distribution():
    values = [kernel_distance(normal(40, 2 * i), normal(40, 2 * i + 1)) for i in range(100)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10 and min(values) < 0


def test_kernel_distance_is_unbiased_for_sets_matched_by_compound():
    compound = torch.arange(8).repeat(5)  # 40 images, compounds far apart
    centre = 2 * normal(8, 1000)
    values = [
        kernel_distance(centre[compound] + normal(40, 2 * i), centre[compound] + normal(40, 2 * i + 1))
        for i in range(100)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10


def test_diversity_is_the_mean_distance_inside_a_context_only():
    one = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])  # distances 5, 0, 5
    far = torch.full((3, 2), 100.0)
    assert diversity(torch.stack([one, far])) == pytest.approx((10 / 3 + 0) / 2)
    assert np.isnan(diversity(far.unsqueeze(1)))


def test_standardise_scales_all_features_alike():
    real = torch.tensor([[0.0, 10.0], [2.0, 14.0]])  # variances 2 and 8, rms deviation sqrt 5
    got = standardise(torch.tensor([[[1.0, 12.0], [2.0, 10.0]]]), real)
    torch.testing.assert_close(got, torch.tensor([[[0.0, 0.0], [1.0, -2.0]]]) / 5**0.5)
    with pytest.raises(ValueError, match="features that vary"):
        standardise(real, real[:1].repeat(3, 1))


def test_incomparable_features_are_refused():
    with pytest.raises(ValueError, match=r"F equal; got \(9, 4\) and \(9, 3\)"):
        frechet_distance(normal(9, 0), normal(9, 0, features=3))
    with pytest.raises(ValueError, match="need pairs, and counts"):
        frechet_resampled(normal(9, 0), normal(8, 0), torch.ones(2, 9))
    with pytest.raises(ValueError, match="as many images"):
        kernel_distance(normal(9, 0), normal(8, 0))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(normal(9, 0) * torch.nan, normal(9, 0))

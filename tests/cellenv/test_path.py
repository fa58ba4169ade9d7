import pytest
import torch

from cellenv.path import edm_times, interpolate, lift, uniform_times, velocity, velocity_to


@pytest.fixture
def pair():
    """B = W, where a time that is not lifted broadcasts over the width and nothing is raised."""
    return torch.randn(2, 4, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_each_sample_is_at_its_own_time(pair):
    x0, x1 = pair
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    x_t = interpolate(x0, x1, t)
    for i, time in enumerate(t):
        torch.testing.assert_close(x_t[i], (1 - time) * x0[i] + time * x1[i])


def test_ends_are_exact(pair):
    x0, x1 = pair
    assert torch.equal(interpolate(x0, x1, torch.zeros(4)), x0)
    assert torch.equal(interpolate(x0, x1, torch.ones(4)), x1)


def test_velocity_is_the_derivative_of_the_path(pair):
    x0, x1 = pair
    t, h = torch.full((4,), 0.3, dtype=torch.float64), 0.5
    torch.testing.assert_close((interpolate(x0, x1, t + h) - interpolate(x0, x1, t)) / h, velocity(x0, x1))


def test_velocity_to_an_end_point_is_that_of_the_path_until_the_floor(pair):
    x0, x1 = pair
    t = torch.tensor([0.0, 0.4, 0.9, 0.99], dtype=torch.float64)
    v = velocity_to(x1, interpolate(x0, x1, t), t)
    torch.testing.assert_close(v[:3], velocity(x0, x1)[:3])
    torch.testing.assert_close(v[3], velocity(x0, x1)[3] * 0.01 / 0.05)


@pytest.mark.parametrize("shape", [(3,), (4, 1), ()])
def test_lift_wants_one_value_per_sample(pair, shape):
    with pytest.raises(ValueError, match="one value per sample"):
        lift(torch.zeros(shape), pair[0])


def test_uniform_times():
    torch.testing.assert_close(uniform_times(4), torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64))
    with pytest.raises(ValueError, match="at least one step"):
        uniform_times(0)


def test_edm_times_follow_the_noise_levels_of_the_paper():
    times = edm_times(5)
    expected = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    torch.testing.assert_close(1 / times[:-1] - 1, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(times[[0, -1]], torch.tensor([1 / 81, 1], dtype=torch.float64))
    assert (times.diff() > 0).all()
    with pytest.raises(ValueError, match="two points"):
        edm_times(1)

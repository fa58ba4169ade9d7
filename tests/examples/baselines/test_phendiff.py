"""PhenDiff on Gaussian images, for which noise, velocity and translation are known."""

import math

import pytest
import torch

from cellenv.networks import UNetConfig
from cellenv.path import lift, uniform_times
from examples.baselines.loading import load_generator
from examples.baselines.phendiff import PhenDiff, arc_velocity, ddim, on_arc, phendiff_loss

TINY = UNetConfig(size=(2, 8, 8), condition_dim=3, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0)
CONTROL, TREATED = (-0.4, 0.5), (1.1, 0.2)  # mean and standard deviation of the two classes

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def images():
    return torch.randn(64, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.5 - 0.4


@pytest.fixture
def model():
    model = PhenDiff(TINY, steps=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def gaussian(mean: float, std: float):
    """u of images that are normal: cos(phi) E[x1 | x] - sin(phi) E[n | x]."""

    def u(x, phi):
        sin, cos = lift(phi.sin(), x), lift(phi.cos(), x)
        off = (x - sin * mean) / (sin**2 * std**2 + cos**2)
        return cos * (mean + sin * std**2 * off) - sin * (cos * off)

    return u


def there_and_back(images, steps, to=CONTROL):
    times = uniform_times(steps)
    noise = ddim(gaussian(*CONTROL), images, times.flip(0))
    return noise, ddim(gaussian(*to), noise, times)


def order(errors: dict[int, float]) -> float:
    """Slope on a log-log line, first to last."""
    (k0, e0), *_, (k1, e1) = errors.items()
    return math.log(e0 / e1) / math.log(k1 / k0)


def test_the_arc_starts_at_noise_and_ends_at_the_image():
    x1, n = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    for phi, x, u in ((0.0, n, x1), (math.pi / 2, x1, -n)):
        x_t, turn = on_arc(x1, n, torch.full((3,), phi, dtype=torch.float64))
        torch.testing.assert_close(x_t, x, rtol=0, atol=1e-12)
        torch.testing.assert_close(turn, u, rtol=0, atol=1e-12)


def test_u_is_the_derivative_along_the_arc():
    x1, n = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    phi, h = torch.tensor([0.2, 0.7, 1.4], dtype=torch.float64), 1e-5
    slope = (on_arc(x1, n, phi + h)[0] - on_arc(x1, n, phi - h)[0]) / (2 * h)
    x_t, u = on_arc(x1, n, phi)
    torch.testing.assert_close(u, slope, rtol=0, atol=1e-8)
    torch.testing.assert_close(arc_velocity(x1, x_t, phi), u)  # a perfect prediction of x1 implies the true u


def test_one_image_is_reached_in_one_step_and_in_seven():
    x1, n = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    for steps in (1, 7):
        end = ddim(lambda x, phi: on_arc(x1, n, phi)[1], n, uniform_times(steps))
        torch.testing.assert_close(end, x1)


def test_a_step_is_that_of_the_paper():
    x, times, mean = torch.randn(4, 1, 1, 1, dtype=torch.float64), torch.tensor([0.3, 0.4], dtype=torch.float64), 0.7
    phi, phi_next = (times * math.pi / 2).tolist()
    n = (x - math.sin(phi) * mean) / math.cos(phi)  # the noise, if the prediction is the mean
    expected = math.sin(phi_next) * mean + math.cos(phi_next) * n
    end = ddim(lambda x, phi: arc_velocity(torch.full_like(x, mean), x, phi), x, times)
    torch.testing.assert_close(end, expected)


def test_inversion_finds_the_noise_and_generation_returns_the_image(images):
    noise, back = {}, {}
    for steps in (20, 80, 320):
        found, returned = there_and_back(images, steps)
        noise[steps] = float((found - (images - CONTROL[0]) / CONTROL[1]).abs().max())
        back[steps] = float((returned - images).abs().max())
    assert order(noise) == pytest.approx(1, abs=0.1) and order(back) == pytest.approx(1, abs=0.1)
    assert noise[320] < 0.02 and back[320] < 0.02


def test_another_class_keeps_the_place_in_the_distribution(images):
    errors = {}
    for steps in (20, 80, 320):
        _, treated = there_and_back(images, steps, to=TREATED)
        expected = TREATED[0] + TREATED[1] * (images - CONTROL[0]) / CONTROL[1]
        errors[steps] = float((treated - expected).abs().max())
    assert order(errors) == pytest.approx(1, abs=0.15) and errors[320] < 0.01


def test_the_loss_is_minimal_at_the_conditional_expectation():
    rng = torch.Generator().manual_seed(0)
    x1, n = torch.randn(2, 20_000, 1, 1, 1, dtype=torch.float64, generator=rng)
    t, u = torch.rand(20_000, dtype=torch.float64, generator=rng), gaussian(0.3, 0.5)
    best = phendiff_loss(u, 0.3 + 0.5 * x1, n, t).mean()

    def wrong(scale, shift):
        return phendiff_loss(lambda x, phi: scale * u(x, phi) + shift, 0.3 + 0.5 * x1, n, t).mean()

    assert min(wrong(0.6, 0), wrong(1.4, 0), wrong(1, 0.1), wrong(1, -0.1)) > best + 0.004
    exact = phendiff_loss(lambda x, phi: on_arc(x1, n, phi)[1].float(), x1, n, t)
    assert exact.shape == (20_000,) and exact.max() < 1e-10


def test_a_control_is_inverted_as_one_and_drawn_as_treated(model, monkeypatch):
    asked, u = [], model.u
    monkeypatch.setattr(
        model, "u", lambda x, phi, *condition: asked.append((float(phi[0]), condition)) or u(x, phi, *condition)
    )
    x0, condition = torch.rand(2, 2, 8, 8) - 0.5, torch.randn(2, 3)
    x1, noise = model.sample(x0, condition, torch.tensor([1, 2]))
    angles = [i * math.pi / 6 for i in range(4)]
    assert [phi for phi, _ in asked] == pytest.approx(angles[:0:-1] + angles[:-1])
    assert [len(given) for _, given in asked] == [0, 0, 0, 1, 1, 1]
    assert all(given[0] is condition for _, given in asked[3:])
    assert x1.equal(model.sample(x0, condition, torch.tensor([7, 8]))[0])  # nothing is random
    assert not x1.equal(model.sample(x0, -condition, torch.tensor([1, 2]))[0])
    assert x1.abs().max() == 1 < noise.abs().max()  # the image is clamped, the noise is not


def test_a_control_has_no_condition(model):
    x, phi, condition = torch.rand(2, 2, 8, 8), torch.tensor([0.3, 1.2]), torch.randn(2, 3)
    mixed = model.u(x, phi, condition, torch.tensor([True, False]))
    torch.testing.assert_close(mixed[1], model.u(x, phi)[1])
    torch.testing.assert_close(mixed[0], model.u(x, phi, condition)[0])
    assert not torch.allclose(mixed[0], model.u(x, phi)[0])


def test_saved_and_loaded_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "model", {"steps": 1})
    again = load_generator(tmp_path / "model")
    assert isinstance(again, PhenDiff) and again.steps == 3
    x0, condition = torch.rand(2, 2, 8, 8) - 0.5, torch.randn(2, 3)
    assert again.sample(x0, condition)[0].equal(model.sample(x0, condition)[0])


def test_a_network_that_gives_velocities_is_refused():
    with pytest.raises(ValueError, match="need predicts='v'"):
        PhenDiff(UNetConfig(predicts="x1"))

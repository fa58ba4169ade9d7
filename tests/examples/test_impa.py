"""IMPA: what AdaIN sets, which way each loss pulls, what the style depends on."""

import math

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def impa(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import baselines.impa

    return baselines.impa


@pytest.fixture
def sizes(impa):
    return impa.IMPAConfig(size=(3, 8, 8), condition_dim=4, compounds=5, width=4, levels=2, patch=2, style=6, noise=3)


@pytest.fixture
def model(impa, sizes):
    return impa.IMPA(sizes).eval()


@pytest.fixture
def scene():
    rng = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 8, 8, generator=rng) * 2 - 1, torch.randn(4, 4, generator=rng), torch.tensor([0, 4, 2, 2])


@pytest.fixture
def z():
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2)).unbind()


class Brightness(nn.Module):
    """Answers (B, P): for compound p, gain_p times the sum of the image."""

    def __init__(self, gain):
        super().__init__()
        self.gain = nn.Parameter(torch.as_tensor(gain))

    def forward(self, x):
        return x.sum((1, 2, 3))[:, None] * self.gain


def test_adain_gives_exactly_this_mean_and_deviation(impa):
    rng = torch.Generator().manual_seed(3)
    h, mean, std = (torch.randn(size, generator=rng).double() for size in ((3, 5, 7, 5), (3, 5), (3, 5)))
    h, std = 4 * h + 2, std.abs() + 0.1
    out = impa.adain(h, mean, std)
    torch.testing.assert_close(out.mean((2, 3)), mean)
    torch.testing.assert_close(out.std((2, 3), correction=0), std, rtol=1e-5, atol=0)
    torch.testing.assert_close(impa.adain(3 * h + 1, mean, std), out, rtol=1e-5, atol=1e-5)  # its own style is gone


def test_a_style_says_mean_and_deviation_of_a_block(impa):
    block, h, style = impa.Block(5, 4, 1, 6).double(), torch.randn(3, 5, 7, 5).double(), torch.randn(3, 6).double()
    seen = []
    block.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(h, style)
    mean, more = block.looks[0](style).chunk(2, dim=1)
    torch.testing.assert_close(seen[0], torch.nn.functional.silu(impa.adain(h, mean, 1 + more)))


def test_losses_at_known_answers(impa):
    zero, high, low = torch.zeros(1), torch.tensor([8.0]), torch.tensor([-8.0])
    assert float(impa.discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(impa.generator_loss(zero)) == pytest.approx(math.log(2))
    assert impa.discriminator_loss(high, low) < 1e-3 < 15 < impa.discriminator_loss(low, high)
    assert impa.generator_loss(high) < 1e-3 < 7 < impa.generator_loss(low)


def test_penalty_of_a_linear_answer(impa):
    images, w = torch.randn(3, 2, 4, 4, requires_grad=True), torch.randn(2, 4, 4, requires_grad=True)
    penalty = impa.gradient_penalty((w * images).sum((1, 2, 3)), images)
    torch.testing.assert_close(penalty, (w.square().sum() / 2).expand(3))
    torch.testing.assert_close(torch.autograd.grad(penalty.sum(), w)[0], 3 * w)  # it teaches the discriminator


def test_discriminator_terms_ask_of_each_image_its_own_compound(impa, scene):
    x1, _, compound = scene
    gain = torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05])
    discriminator, fake = Brightness(gain), torch.rand_like(x1).requires_grad_()
    terms = impa.discriminator_terms(discriminator, x1, fake, compound, impa.Weights(penalty=3.0))
    own = gain[compound]
    expected = impa.discriminator_loss(own * x1.sum((1, 2, 3)), own * fake.sum((1, 2, 3)))
    torch.testing.assert_close(terms["discriminator"], expected)
    torch.testing.assert_close(terms["penalty"], 3 * own**2 * x1[0].numel() / 2)
    sum(terms.values()).sum().backward()
    assert fake.grad is None and discriminator.gain.grad[3] == 0 and discriminator.gain.grad[0] != 0


def test_generator_terms_are_those_of_the_paper(impa, model, scene, z):
    x0, condition, compound = scene
    gain = torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05])
    weights = impa.Weights(style=2.0, cycle=3.0, variety=0.5)
    terms = impa.generator_terms(model, Brightness(gain), x0, condition, compound, z, weights)
    with torch.no_grad():
        style = model.mapping(condition, z[0])
        fake, other = model.generator(x0, style), model.generator(x0, model.mapping(condition, z[1]))
        back = model.generator(fake, model.style_encoder(x0))
        expected = {
            "generator": torch.nn.functional.softplus(-gain[compound] * fake.sum((1, 2, 3))),
            "style": 2 * (style - model.style_encoder(fake)).abs().mean(1),
            "cycle": 3 * (x0 - back).abs().mean((1, 2, 3)),
            "variety": -0.5 * (fake - other).abs().mean((1, 2, 3)),
        }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].detach(), value)


@pytest.mark.parametrize(
    ("term", "better"),
    [
        ("generator", lambda before, after: after > before),  # the answer to its images rises
        ("style", lambda before, after: after < before),
        ("cycle", lambda before, after: after < before),
        ("variety", lambda before, after: after > before),
    ],
)
def test_a_step_along_each_term_does_what_it_says(impa, model, scene, z, term, better):
    x0, condition, compound = scene
    discriminator = Brightness(torch.full((5,), 0.01))

    def measured():
        style = model.mapping(condition, z[0])
        fake = model.generator(x0, style)
        return {
            "generator": impa.answer(discriminator, fake, compound),
            "style": impa.distance(style, model.style_encoder(fake)),
            "cycle": impa.distance(x0, model.generator(fake, model.style_encoder(x0))),
            "variety": impa.distance(fake, model.generator(x0, model.mapping(condition, z[1]))),
        }[term].mean()

    before = measured().item()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    impa.generator_terms(model, discriminator, x0, condition, compound, z, impa.Weights())[term].mean().backward()
    optimizer.step()
    assert better(before, measured().item())


def test_all_parts_learn(impa, model, sizes, scene, z):
    x0, condition, compound = scene
    discriminator = impa.Look(sizes, 5)
    terms = impa.generator_terms(model, discriminator, x0, condition, compound, z, impa.Weights())
    sum(terms.values()).mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_style_depends_on_condition_and_noise(model, scene):
    x0, condition, _ = scene
    seed = torch.arange(4)
    drawn, source = model.sample(x0, condition, seed)
    assert source is x0 and drawn.shape == x0.shape and drawn.abs().max() <= 1
    assert drawn.equal(model.sample(x0, condition, seed)[0])
    for other in ((x0, condition, seed + 4), (x0, condition + 1, seed), (-x0, condition, seed)):
        assert not torch.allclose(model.sample(*other)[0], drawn)
    alone = model.sample(x0[2:3], condition[2:3], seed[2:3])[0]
    torch.testing.assert_close(alone, drawn[2:3])


def test_saved_and_loaded_is_the_same(impa, model, scene, tmp_path):
    import baselines

    model.save_pretrained(tmp_path / "model")
    again, (x0, condition, seed) = baselines.load_generator(tmp_path / "model"), scene
    assert isinstance(again, impa.IMPA) and again.sample(x0, condition, seed)[0].equal(
        model.sample(x0, condition, seed)[0]
    )


def test_images_that_cannot_be_halved_are_refused(impa):
    with pytest.raises(ValueError, match="divisible by 8; got"):
        impa.IMPAConfig(size=(3, 20, 20))

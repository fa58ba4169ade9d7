"""IMPA's losses: closed forms, and which way each term moves the networks."""

import math

import pytest
import torch
from torch import nn

from examples.baselines.impa import IMPA, ConvEncoder
from examples.baselines.impa_losses import (
    IMPALossWeights,
    compound_logit,
    discriminator_loss,
    discriminator_terms,
    generator_loss,
    generator_terms,
    gradient_penalty,
    mean_absolute_error,
)
from tests.examples.baselines.impa_toys import SIZES, contexts

pytestmark = pytest.mark.usefixtures("seeded")
GAINS = torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05])


@pytest.fixture
def model():
    return IMPA(SIZES).eval()


@pytest.fixture
def z():
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2)).unbind()


class Brightness(nn.Module):
    """A discriminator (B, P): for compound p, gain_p times the sum of the image."""

    def __init__(self, gain):
        super().__init__()
        self.gain = nn.Parameter(torch.as_tensor(gain))

    def forward(self, x):
        return x.sum((1, 2, 3))[:, None] * self.gain


def test_losses_at_known_logits():
    zero, high, low = torch.zeros(1), torch.tensor([8.0]), torch.tensor([-8.0])
    assert float(discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(generator_loss(zero)) == pytest.approx(math.log(2))
    assert discriminator_loss(high, low) < 1e-3 < 15 < discriminator_loss(low, high)
    assert generator_loss(high) < 1e-3 < 7 < generator_loss(low)


def test_penalty_of_a_linear_discriminator():
    images, w = torch.randn(3, 2, 4, 4, requires_grad=True), torch.randn(2, 4, 4, requires_grad=True)
    penalty = gradient_penalty((w * images).sum((1, 2, 3)), images)
    torch.testing.assert_close(penalty, (w.square().sum() / 2).expand(3))
    torch.testing.assert_close(torch.autograd.grad(penalty.sum(), w)[0], 3 * w)  # it trains the discriminator


def test_the_discriminator_judges_each_image_by_its_own_compound():
    x1, _, compound = contexts()
    discriminator, fake = Brightness(GAINS), torch.rand_like(x1).requires_grad_()
    terms = discriminator_terms(discriminator, x1, fake, compound, IMPALossWeights(gradient_penalty=3.0))
    own = GAINS[compound]
    expected = discriminator_loss(own * x1.sum((1, 2, 3)), own * fake.sum((1, 2, 3)))
    torch.testing.assert_close(terms["discriminator"], expected)
    torch.testing.assert_close(terms["gradient_penalty"], 3 * own**2 * x1[0].numel() / 2)
    sum(terms.values()).sum().backward()
    assert fake.grad is None and discriminator.gain.grad[3] == 0 and discriminator.gain.grad[0] != 0


def test_generator_terms_are_those_of_the_paper(model, z):
    x0, condition, compound = contexts()
    weights = IMPALossWeights(style=2.0, cycle=3.0, diversity=0.5)
    terms = generator_terms(model, Brightness(GAINS), x0, condition, compound, z, weights)
    with torch.no_grad():
        style = model.mapping(condition, z[0])
        fake, other = model.generator(x0, style), model.generator(x0, model.mapping(condition, z[1]))
        back = model.generator(fake, model.style_encoder(x0))
        expected = {
            "generator": torch.nn.functional.softplus(-GAINS[compound] * fake.sum((1, 2, 3))),
            "style": 2 * (style - model.style_encoder(fake)).abs().mean(1),
            "cycle": 3 * (x0 - back).abs().mean((1, 2, 3)),
            "diversity": -0.5 * (fake - other).abs().mean((1, 2, 3)),
        }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].detach(), value)


@pytest.mark.parametrize(("term", "sign"), [("generator", 1), ("style", -1), ("cycle", -1), ("diversity", 1)])
def test_a_step_along_a_term_moves_what_it_is_about(model, z, term, sign):
    """The logit of generated images and the distance of two of them rise; the errors of style and cycle fall."""
    x0, condition, compound = contexts()
    discriminator = Brightness(torch.full((5,), 0.01))

    def measured():
        style = model.mapping(condition, z[0])
        fake = model.generator(x0, style)
        return {
            "generator": compound_logit(discriminator, fake, compound),
            "style": mean_absolute_error(style, model.style_encoder(fake)),
            "cycle": mean_absolute_error(x0, model.generator(fake, model.style_encoder(x0))),
            "diversity": mean_absolute_error(fake, model.generator(x0, model.mapping(condition, z[1]))),
        }[term].mean()

    before = measured().item()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    terms = generator_terms(model, discriminator, x0, condition, compound, z, IMPALossWeights())
    terms[term].mean().backward()
    optimizer.step()
    assert sign * (measured().item() - before) > 0


def test_all_parameters_get_a_gradient(model, z):
    x0, condition, compound = contexts()
    terms = generator_terms(model, ConvEncoder(SIZES, 5), x0, condition, compound, z, IMPALossWeights())
    sum(terms.values()).mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []

"""Training steps of both baselines on toy images."""

import math
from functools import partial

import pytest
import torch

from algorithms.launch import start_accelerator
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNetConfig
from examples.baselines import learners
from examples.baselines.learners import ImagePairs, IMPALearner, PhenDiffLearner
from tests.cellenv.toy_cells import ToyCells

pytestmark = pytest.mark.usefixtures("seeded")
DATA = ToyCells()


@pytest.fixture(autouse=True)
def small_networks(monkeypatch, fresh_accelerate):
    tiny = UNetConfig(condition_dim=5, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0)
    monkeypatch.setitem(NETWORKS, "embedded", tiny)
    monkeypatch.setattr(learners, "IMPAConfig", partial(learners.IMPAConfig, width=4, levels=2, style_dim=8))


@pytest.fixture
def accelerator():
    return start_accelerator(mixed_precision="no", threads=1)


def flat_pairs(dark: float, bright: float, n: int = 8) -> ImagePairs:
    """Controls and treated images of constant brightness."""
    x0, x1 = (torch.full((n, *DATA.size), level) for level in (dark, bright))
    compound = torch.arange(n) % 2
    return ImagePairs(x0, x1, DATA.conditions[compound], compound)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_phendiff_learns(accelerator):
    learner = PhenDiffLearner(DATA, accelerator, 5e-3)
    losses = [learner.step(flat_pairs(-0.5, 0.5), rng(1), 1.0, 0.0)["loss"] for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]


def test_phendiff_sees_a_quarter_controls_without_condition(accelerator):
    """Controls are dark and treated images bright, which shows in x_t = sin(phi) x1 + cos(phi) n for t near 1."""
    learner, seen = PhenDiffLearner(DATA, accelerator, 1e-3), []
    learner.model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    learner.step(flat_pairs(-0.9, 0.9, n=400), rng(), 1.0, 0.0)
    ((x_t, t, condition, keep),) = seen
    assert keep.double().mean() == pytest.approx(0.75, abs=0.06) and condition.shape == (400, 5)
    late = t > 0.4
    level = x_t.mean((1, 2, 3)) / (t * math.pi / 2).sin()
    torch.testing.assert_close(level[late & keep], torch.full_like(level[late & keep], 0.9), rtol=0, atol=0.5)
    torch.testing.assert_close(level[late & ~keep], torch.full_like(level[late & ~keep], -0.9), rtol=0, atol=0.5)


def test_impa_learns_what_treated_images_have_in_common(accelerator):
    learner, pairs = IMPALearner(DATA, accelerator, 2e-3), flat_pairs(-0.5, 0.5)
    noisy = pairs._replace(
        x0=pairs.x0 + 0.1 * torch.randn_like(pairs.x0), x1=pairs.x1 + 0.1 * torch.randn_like(pairs.x1)
    )
    sample = partial(learner.model.sample, noisy.x0, noisy.condition, torch.arange(8))
    before = sample()[0].mean()
    for step in range(40):
        learner.step(noisy, rng(step), 1.0, 0.0)
    assert sample()[0].mean() > before + 0.2


@pytest.mark.parametrize("learner_type", [PhenDiffLearner, IMPALearner])
def test_the_learning_rate_is_scaled_by_its_factor(accelerator, learner_type):
    """At factor 0 nothing moves, at 1 weights do."""
    learner = learner_type(DATA, accelerator, 5e-3)
    start = [parameter.clone() for parameter in learner.model.parameters()]

    def moved(factor):
        learner.step(flat_pairs(-0.5, 0.5), rng(1), factor, 0.0)
        return any(not a.equal(b) for a, b in zip(start, learner.model.parameters(), strict=True))

    assert not moved(0.0) and moved(1.0)


def test_the_weight_of_diversity_decays_over_the_training(accelerator):
    learner, pairs = IMPALearner(DATA, accelerator, 1e-3), flat_pairs(-0.5, 0.5)
    start, late = (learner.step(pairs, rng(), 0.0, progress)["diversity"] for progress in (0.0, 0.75))
    assert start < 0 and late == pytest.approx(start / 4)

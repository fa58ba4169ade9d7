"""Training pairs of the base, of one plate, and the loss on them."""

from dataclasses import replace

import pytest
import torch

from algorithms.recipes.base import PairConfig
from algorithms.recipes.flow_matching_data import Pairs, draw_pairs, draw_times, flow_matching_loss
from cellenv.path import interpolate
from cellenv.streams import rng_at
from tests.algorithms.recipes.base_toys import FewCells

CONFIG = PairConfig()


def test_pairs_run_from_control_to_treated_of_one_plate():
    data = FewCells()
    plain = replace(CONFIG, noise_level=0.0, flip=0.0, condition_dropout=0.0)
    pairs = draw_pairs(data, 64, rng_at(0), plain, slice(None))
    source = [int((data.pixels == x).flatten(1).all(1).nonzero()) for x in pairs.x0]
    sample = [int((data.pixels == x).flatten(1).all(1).nonzero()) for x in pairs.x1]
    assert (data.perturbation[source] == -1).all()
    assert (data.perturbation[sample] >= 0).all()
    assert torch.equal(data.plate[source], data.plate[sample])
    assert torch.equal(pairs.condition, data.conditions[data.perturbation[sample]])
    assert pairs.keep.all()


def test_two_processes_share_the_pairs_of_one():
    def draw(share):
        return draw_pairs(FewCells(), 9, rng_at(0), replace(CONFIG, dequantise=True), share)

    whole, halves = draw(slice(None)), [draw(slice(rank, None, 2)) for rank in (0, 1)]
    for value, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(value[0::2], first)
        assert torch.equal(value[1::2], second)


def test_fractions_of_noise_and_of_dropped_conditions():
    config = replace(CONFIG, noise_level=0.5, noise_share=0.25, condition_dropout=0.4, flip=0.0)
    pairs = draw_pairs(FewCells(), 4000, rng_at(0), config, slice(None))
    assert pairs.keep.float().mean() == pytest.approx(0.6, abs=0.03)
    noise = pairs.x0[:, 0, 0, 0] + 1
    assert (noise != 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert noise[noise != 0].std() == pytest.approx(0.5, abs=0.03)


def test_source_and_sample_are_mirrored_independently():
    config = replace(CONFIG, noise_level=0.0, flip=0.5)
    pairs = draw_pairs(FewCells(), 4000, rng_at(0), config, slice(None))
    moved = torch.stack([(x[:, 0, 0, 0].abs() != 1) for x in (pairs.x0, pairs.x1)]).float()  # the marked corner
    assert moved.mean(1).tolist() == pytest.approx([0.75, 0.75], abs=0.03)  # of four mirrorings, one does nothing
    assert moved.prod(0).mean() == pytest.approx(0.75**2, abs=0.03)


def test_loss_is_zero_at_the_true_velocity():
    x0, x1 = torch.rand(2, 4, 3, 4, 4, generator=rng_at(0))
    t, condition, keep = torch.rand(4, generator=rng_at(1)), torch.zeros(4, 2), torch.ones(4, dtype=torch.bool)

    def true_velocity(x_t, t, condition, keep):
        return (x_t - x0) / t.reshape(4, 1, 1, 1)

    pairs = Pairs(x0, x1, t, condition, keep)
    torch.testing.assert_close(flow_matching_loss(true_velocity, pairs, CONFIG), torch.zeros(4), rtol=0, atol=1e-8)
    still = flow_matching_loss(lambda *_: torch.zeros_like(x0), pairs, replace(CONFIG, soft_end=0.0))
    torch.testing.assert_close(still, (x1 - x0).pow(2).mean((1, 2, 3)))


def test_errors_near_the_sample_count_less():
    """Up to t = 1 - soft_end all alike; after it as the error of the end point, (1 - t) (v_theta - v)."""
    x0, x1 = torch.rand(2, 4, 3, 4, 4, generator=rng_at(0))
    t = torch.tensor([0.0, 0.75, 0.95, 0.99])
    pairs = Pairs(x0, x1, t, torch.zeros(4, 2), torch.ones(4, dtype=torch.bool))
    loss = flow_matching_loss(lambda *_: torch.zeros_like(x0), pairs, replace(CONFIG, soft_end=0.1))
    weight = torch.tensor([1.0, 1.0, 0.25, 0.01])
    torch.testing.assert_close(loss, weight * (x1 - x0).pow(2).mean((1, 2, 3)), rtol=1e-4, atol=0)


def test_guidance_is_distilled_where_one_evaluation_equals_two():
    w, v, none = 0.6, *torch.randn(2, 4, 3, 4, 4, generator=rng_at(0))
    keep = torch.tensor([True, True, True, False])
    pairs = Pairs(torch.zeros_like(v), v, torch.rand(4, generator=rng_at(1)), torch.zeros(4, 2), keep)

    def guided(x_t, t, condition=None, keep=None):
        return none if condition is None else torch.where(keep[:, None, None, None], (1 + w) * v - w * none, none)

    loss = flow_matching_loss(guided, pairs, replace(CONFIG, guidance=w, soft_end=0.0))
    torch.testing.assert_close(loss[:3], torch.zeros(3), rtol=0, atol=1e-10)
    torch.testing.assert_close(loss[3], (none - v)[3].pow(2).mean())


def test_guidance_moves_the_target_and_not_the_gradient():
    """Not where the condition is dropped, although dropout may make the two evaluations differ there."""
    w, x0, x1 = 0.6, *torch.randn(2, 4, 3, 4, 4, generator=rng_at(0))
    keep = torch.tensor([True, True, True, False])
    pairs = Pairs(x0, x1, torch.rand(4, generator=rng_at(1)), torch.zeros(4, 2), keep)
    scale = torch.tensor(0.5, requires_grad=True)

    def network(x_t, t, condition=None, keep=None):
        return scale * (x_t if condition is None else 3 * x_t)

    flow_matching_loss(network, pairs, replace(CONFIG, guidance=w, soft_end=0.0)).sum().backward()
    x_t = interpolate(x0, x1, pairs.t)
    target = x1 - x0 + keep.reshape(4, 1, 1, 1) * w / (1 + w) * (1.5 - 0.5) * x_t
    torch.testing.assert_close(scale.grad, (2 * (1.5 * x_t - target) * 3 * x_t).mean((1, 2, 3)).sum())


def test_skewed_times_lie_nearer_to_the_sample():
    uniform, skewed = (draw_times(20_000, rng_at(0), name) for name in ("uniform", "skewed"))
    assert uniform.median() == pytest.approx(0.5, abs=0.01)
    assert skewed.median() == pytest.approx(1 / (1 + torch.tensor(-1.2).exp().item()), abs=0.01)
    assert 0 < skewed.min() < skewed.max() < 1


def test_dequantised_pairs_lie_within_a_grey_level_and_change_no_other_draw():
    def draw(**changes):
        return draw_pairs(FewCells(), 6, rng_at(0), replace(CONFIG, noise_level=0.0, **changes), slice(None))

    plain, real = draw(), draw(dequantise=True)
    for name in ("x0", "x1"):
        added = (getattr(real, name) - getattr(plain, name)) * 255 / 2
        assert -1e-4 < added.min() and added.max() < 1 + 1e-4 and added.mean() == pytest.approx(0.5, abs=0.03)
    assert not torch.equal(real.x0 - plain.x0, real.x1 - plain.x1)
    assert torch.equal(real.t, plain.t) and torch.equal(real.keep, plain.keep)

"""FlowAWR: closed form, fixed point, DiffusionNFT's gradient on policy, precision, the module."""

import copy

import pytest
import torch

from algorithms.losses.flowawr import FlowAWRLoss, flowawr_loss
from algorithms.losses.nft import nft_loss_adaptive
from cellenv.path import lift
from tests.algorithms.matching_toys import (
    Scale,
    check_learning,
    check_module,
    gradient,
    models,
    rows,
)

A = torch.tensor([-2.0, -0.4, 0.0, 2.5], dtype=torch.float64)
T = torch.tensor([0.0, 0.3, 0.7, 0.95], dtype=torch.float64)


def test_it_equals_its_formula_row_by_row(velocities):
    expected = []
    for v_theta, v_old, v, t, a in zip(*velocities, T, A, strict=True):
        e = (1 - t) * (v_theta - (v_old + a * (v - v_old)))
        expected.append((e**2).mean() / ((1 - t) * (v - v_old)).abs().mean())
    torch.testing.assert_close(flowawr_loss(*velocities, T, A), torch.stack(expected))


def test_gradient_is_zero_at_the_target(velocities):
    _, v_old, v = velocities
    target = v_old + lift(A, v) * (v - v_old)
    assert gradient(flowawr_loss, target, v_old, v, T, A).abs().max() < 1e-12
    assert (gradient(flowawr_loss, target + 0.1, v_old, v, T, A) > 1e-4).all()


def test_on_policy_the_gradient_is_that_of_nft(velocities):
    """So the size of the advantage counts, and what is common to a group cancels; its fixed point is another."""
    _, v_old, v = velocities
    expected = gradient(nft_loss_adaptive, v_old, v_old, v, T, 0.5 + A / 10, beta=0.3)
    torch.testing.assert_close(gradient(flowawr_loss, v_old, v_old, v, T, A), expected)
    twice = gradient(flowawr_loss, v_old, v_old, v, T, A / 2)
    torch.testing.assert_close(2 * twice, expected)


def test_without_advantage_only_the_old_velocity_pulls(velocities):
    _, v_old, v = velocities
    none = torch.zeros_like(A)
    assert gradient(flowawr_loss, v_old, v_old, v, T, none).abs().max() == 0
    step = -gradient(flowawr_loss, *velocities, T, none)
    away = velocities[0] - v_old
    factor = (step * away).flatten(1).sum(1) / away.square().flatten(1).sum(1)
    torch.testing.assert_close(step, lift(factor, away) * away)
    assert (factor < 0).all()


def test_advantages_are_clipped_at_three(velocities):
    three, nine = (flowawr_loss(*velocities, T, torch.full((4,), a)) for a in (3.0, 9.0))
    low, lower = (flowawr_loss(*velocities, T, torch.full((4,), a)) for a in (-3.0, -9.0))
    assert torch.equal(three, nine) and torch.equal(low, lower) and not torch.equal(three, low)
    assert not torch.equal(three, flowawr_loss(*velocities, T, torch.full((4,), 2.9)))


def test_old_policy_and_the_denominator_get_no_gradient(velocities):
    v_theta, v_old, v = velocities
    assert not flowawr_loss(v_theta, v_old.requires_grad_(), v, T, A).requires_grad


def test_a_perfect_old_prediction_is_finite(velocities):
    v_theta, _, v = velocities
    assert flowawr_loss(v_theta, v, v, T, A).isfinite().all() and (flowawr_loss(v, v, v, T, A) == 0).all()


def test_rows_are_independent_and_low_precision_is_computed_in_float32(velocities):
    inputs = (*velocities, T, A)
    whole = flowawr_loss(*inputs)
    alone = [flowawr_loss(*(x[i : i + 1] for x in inputs)) for i in range(4)]
    torch.testing.assert_close(whole, torch.cat(alone))
    low = [x.bfloat16() for x in inputs]
    assert flowawr_loss(*low).dtype == torch.float32
    assert torch.equal(flowawr_loss(*low), flowawr_loss(*(x.float() for x in low)))
    late = torch.full((4,), 0.999)  # in bf16 it would round to 1, and the loss to 0
    assert (flowawr_loss(*low[:3], late, low[4]) > 1e-5).all()


def test_module_feeds_the_formula():
    data = rows(advantage=A.float())
    out, (v_theta, v_old, _) = check_module(
        FlowAWRLoss(*models(), kl_weight=0.01),
        "loss_flowawr",
        data,
        lambda v_theta, v_old, v: flowawr_loss(v_theta, v_old, v, data["t"], data["advantage"]),
    )
    torch.testing.assert_close(out["drift"], (v_theta - v_old).square().mean())


def test_zero_advantages_on_policy_give_no_gradient():
    theta = Scale(0.3, 0.1)
    out = FlowAWRLoss(theta, *(copy.deepcopy(theta) for _ in range(2)))(rows(advantage=torch.zeros(4)))
    (out["loss_flowawr"] + out["loss_kl"]).backward()
    assert theta.a.grad == 0 and theta.b.grad == 0


def test_wrong_arguments_raise(velocities):
    theta = Scale(0.3, 0.1)
    with pytest.raises(ValueError, match="three sets of weights"):
        FlowAWRLoss(theta, copy.deepcopy(theta), theta)
    with pytest.raises(ValueError, match="one value per sample"):
        flowawr_loss(*velocities, T[:, None], A)


def test_images_get_brighter(tmp_path):
    check_learning(tmp_path, lambda theta, old, ref, renoise: (FlowAWRLoss(theta, old, ref, kl_weight=0.01), renoise))

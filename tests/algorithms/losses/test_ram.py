"""RAM: closed form, fixed points, the stop-gradient, precision, the module."""

import copy

import pytest
import torch

from algorithms.losses.matching import TIME_WEIGHTS
from algorithms.losses.ram import RAMLoss, ram_loss
from cellenv.path import lift
from tests.algorithms.matching_toys import (
    Scale,
    check_learning,
    check_outputs,
    draw,
    gradient,
    models,
    omega,
    rows,
    velocities_of,
)

A = torch.tensor([-2.0, -0.4, 0.0, 3.0], dtype=torch.float64)
C = 0.7


def test_it_equals_its_formula_row_by_row(velocities):
    v_theta, v_ref, v = velocities
    expected = [
        torch.nn.functional.mse_loss(v_theta[i], v_ref[i] + C * a * (v[i] - v_theta[i])) for i, a in enumerate(A)
    ]
    torch.testing.assert_close(ram_loss(*velocities, A, c=C), torch.stack(expected))


def test_the_target_has_no_gradient(velocities):
    """The gradient is 2 (v_theta - target) / n; through the target it would be 1 + c A times that."""
    v_theta, v_ref, v = velocities
    expected = 2 * (v_theta - v_ref - C * lift(A, v) * (v - v_theta)) / v[0].numel()
    torch.testing.assert_close(gradient(ram_loss, *velocities, A, c=C), expected)
    assert not ram_loss(v_theta, v_ref.requires_grad_(), v, A, c=C).requires_grad


def test_gradient_is_zero_where_the_velocity_is_its_own_target(velocities):
    _, v_ref, v = velocities
    fixed = (v_ref + C * lift(A, v) * v) / (1 + C * lift(A, v))
    assert gradient(ram_loss, fixed, v_ref, v, A, c=C).abs().max() < 1e-12
    assert gradient(ram_loss, fixed + 0.1, v_ref, v, A, c=C).abs().min() > 1e-3


def test_over_many_samples_the_correction_is_the_covariance_of_advantage_and_velocity():
    """With advantages of mean 0 the best constant velocity is v_ref + c E[A v], and does not depend on E[v]."""
    v, A = draw(6, 1, 1, 2, seed=3), draw(6, seed=4)
    A = A - A.mean()
    v_ref = draw(1, 1, 1, 2, seed=5)
    best = v_ref + C * (lift(A, v) * v).mean(0, keepdim=True)
    for shift in (0.0, 4.0):
        one = best.clone().requires_grad_()
        ram_loss(one.expand_as(v), v_ref.expand_as(v), v + shift, A, c=C).sum().backward()
        assert one.grad.abs().max() < 1e-12


def test_without_advantage_only_the_base_pulls(velocities):
    v_theta, v_ref, v = velocities
    none = torch.zeros_like(A)
    torch.testing.assert_close(ram_loss(*velocities, none, c=C), (v_theta - v_ref).square().flatten(1).mean(1))
    assert torch.equal(ram_loss(*velocities, none, c=C), ram_loss(v_theta, v_ref, v + 1, none, c=C))


def test_good_samples_attract_and_bad_ones_repel(velocities):
    _, v_ref, v = velocities
    step = -gradient(ram_loss, v_ref, v_ref, v, A, c=C)
    assert torch.equal((step * (v - v_ref)).flatten(1).sum(1).sign(), A.sign())


def test_advantages_are_clipped_at_five(velocities):
    for sign in (1, -1):
        less, five, nine = (ram_loss(*velocities, torch.full((4,), sign * a), c=C) for a in (4.9, 5.0, 9.0))
        assert torch.equal(five, nine) and not torch.equal(less, five)


def test_rows_are_independent_and_low_precision_is_computed_in_float32(velocities):
    whole = ram_loss(*velocities, A, c=C)
    alone = [ram_loss(*(x[i : i + 1] for x in (*velocities, A)), c=C) for i in range(4)]
    torch.testing.assert_close(whole, torch.cat(alone))
    low = [x.bfloat16() for x in (*velocities, A)]
    assert ram_loss(*low, c=C).dtype == torch.float32
    assert torch.equal(ram_loss(*low, c=C), ram_loss(*(x.float() for x in low), c=C))


@pytest.mark.parametrize("weighting", TIME_WEIGHTS)
def test_module_feeds_the_formula_and_asks_one_frozen_network(weighting):
    data = rows(advantage=A.float())
    loss = RAMLoss(*models(), c=C, time_weight=TIME_WEIGHTS[weighting])
    with torch.no_grad():
        v_theta, _, v_ref, v = velocities_of(loss, data)
    asked = []
    loss.model_old.register_forward_hook(lambda *_: asked.append("old"))
    loss.model_ref.register_forward_hook(lambda *_: asked.append("ref"))
    out = check_outputs(loss, data, ["loss_ram"])
    assert asked == ["ref"]
    expected = omega(weighting, data["t"]) * ram_loss(v_theta, v_ref, v, data["advantage"], c=C)
    torch.testing.assert_close(out["loss_ram"], expected.mean())
    kl = omega("linear", data["t"]) * (v_theta - v_ref).square().flatten(1).mean(1)
    torch.testing.assert_close(out["kl"], kl.mean())


def test_zero_advantages_at_the_base_give_no_gradient():
    theta = Scale(0.3, 0.1)
    RAMLoss(theta, *(copy.deepcopy(theta) for _ in range(2)))(rows(advantage=torch.zeros(4)))["loss_ram"].backward()
    assert theta.a.grad == 0 and theta.b.grad == 0


def test_wrong_arguments_raise():
    theta = Scale(0.3, 0.1)
    with pytest.raises(ValueError, match="three sets of weights"):
        RAMLoss(theta, copy.deepcopy(theta), theta)
    with pytest.raises(ValueError, match="c must be > 0, got 0"):
        RAMLoss(*models(), c=0)


def test_images_get_brighter(tmp_path):
    check_learning(tmp_path, lambda theta, old, ref, renoise: (RAMLoss(theta, old, ref, c=6.0), renoise))

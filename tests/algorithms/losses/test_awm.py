"""AWM: the gradient of A |v_theta - v|^2 on policy, the clip off policy, the module."""

import copy

import pytest
import torch

from algorithms.losses.awm import AWMLoss, awm_loss, is_clipped, likelihood_ratio
from algorithms.losses.matching import TIME_WEIGHTS
from cellenv.path import lift
from tests.algorithms.matching_toys import (
    Scale,
    check_learning,
    check_module,
    gradient,
    models,
    omega,
    rows,
)

A = torch.tensor([-2.0, -0.5, 0.0, 3.0], dtype=torch.float64)
OMEGA = torch.tensor([0.8, 1.0, 1.3, 0.9], dtype=torch.float64)


def test_on_policy_the_gradient_is_that_of_weighted_flow_matching(velocities):
    _, v_old, v = velocities
    expected = 2 * lift(A * OMEGA, v) * (v_old - v) / v[0].numel()
    torch.testing.assert_close(gradient(awm_loss, v_old, v_old, v, OMEGA, A, clip_epsilon=0.01), expected)
    assert torch.equal(likelihood_ratio(v_old, v_old, v, OMEGA), torch.ones(4, dtype=torch.float64))


def test_likelihood_ratio_is_of_two_gaussians(velocities):
    """log N(v; mean, n / 2 omega) is -omega |v - mean|^2, mean over the n values, plus a constant."""
    v_theta, v_old, v = (x.flatten(1) for x in velocities)
    std = (v.shape[1] / 2 / OMEGA[:, None]).sqrt()
    log = [torch.distributions.Normal(mean, std).log_prob(v).sum(1) for mean in (v_theta, v_old)]
    torch.testing.assert_close(likelihood_ratio(*velocities, OMEGA), (log[0] - log[1]).exp())


def moved(velocities, towards):
    """Velocities with v_theta moved towards v, to a ratio above 1.05, or away from it, below 0.95."""
    _, v_old, v = velocities
    v_theta = v_old + 0.1 * towards * (v - v_old)
    rho = likelihood_ratio(v_theta, v_old, v, OMEGA)
    assert (rho > 1.05).all() if towards > 0 else (rho < 0.95).all()
    return v_theta, v_old, v


@pytest.mark.parametrize(("towards", "expected"), [(1, [False, False, False, True]), (-1, [True, True, False, False])])
def test_a_clipped_sample_gets_no_gradient(velocities, towards, expected):
    args = moved(velocities, towards)
    flat = gradient(awm_loss, *args, OMEGA, A, clip_epsilon=0.05).flatten(1)
    zero = flat.abs().amax(1) == 0
    assert zero.tolist() == [clipped or a == 0 for clipped, a in zip(expected, A.tolist(), strict=True)]
    assert is_clipped(likelihood_ratio(*args, OMEGA), A, 0.05).tolist() == expected


def test_inside_the_clip_range_the_gradient_is_scaled_by_the_ratio(velocities):
    args = moved(velocities, 1)
    v_theta, _, v = args
    expected = 2 * lift(OMEGA * A * likelihood_ratio(*args, OMEGA), v) * (v_theta - v) / v[0].numel()
    torch.testing.assert_close(gradient(awm_loss, *args, OMEGA, A, clip_epsilon=1e3), expected)


def test_the_loss_of_bad_samples_is_bounded(velocities):
    _, v_old, v = velocities
    far = v_old - 1e3 * (v - v_old)
    assert (awm_loss(far, v_old, v, OMEGA, -A.abs(), clip_epsilon=0.1) == 0.9 * A.abs()).all()


def test_advantages_are_clipped_at_five(velocities):
    _, v_old, v = velocities
    for sign in (1, -1):
        advantages = (torch.full((4,), sign * a) for a in (5.0, 9.0))
        five, nine = (awm_loss(v_old, v_old, v, OMEGA, a, clip_epsilon=0.1) for a in advantages)
        assert torch.equal(five, nine) and (five == -5 * sign).all()


def test_old_policy_gets_no_gradient(velocities):
    v_theta, v_old, v = velocities
    assert not awm_loss(v_theta, v_old.requires_grad_(), v, OMEGA, A, clip_epsilon=0.1).requires_grad


def test_rows_are_independent_and_low_precision_is_computed_in_float32(velocities):
    whole = awm_loss(*velocities, OMEGA, A, clip_epsilon=0.1)
    alone = [awm_loss(*(x[i : i + 1] for x in (*velocities, OMEGA, A)), clip_epsilon=0.1) for i in range(4)]
    torch.testing.assert_close(whole, torch.cat(alone))
    assert whole.dtype == torch.float64
    assert awm_loss(*(x.bfloat16() for x in (*velocities, OMEGA, A)), clip_epsilon=0.1).dtype == torch.float32


@pytest.mark.parametrize("weighting", TIME_WEIGHTS)
def test_module_feeds_the_formula(weighting):
    data = rows(advantage=A.float())
    weight = omega(weighting, data["t"])
    loss = AWMLoss(*models(), clip_epsilon=0.05, kl_weight=0.01, time_weight=TIME_WEIGHTS[weighting])
    out, (v_theta, v_old, v) = check_module(
        loss, "loss_awm", data, lambda *v: awm_loss(*v, weight, A.float(), clip_epsilon=0.05)
    )
    torch.testing.assert_close(out["drift"], (v_theta - v_old).square().mean())
    assert out["clip_ratio"] == is_clipped(likelihood_ratio(v_theta, v_old, v, weight), A, 0.05).double().mean()
    assert 0 < out["clip_ratio"] < 1


def test_zero_advantages_on_policy_give_no_gradient():
    theta = Scale(0.3, 0.1)
    loss = AWMLoss(theta, copy.deepcopy(theta), copy.deepcopy(theta))
    out = loss(rows(advantage=torch.zeros(4)))
    (out["loss_awm"] + out["loss_kl"]).backward()
    assert theta.a.grad == 0 and theta.b.grad == 0


def test_wrong_arguments_raise():
    theta = Scale(0.3, 0.1)
    with pytest.raises(ValueError, match="three sets of weights"):
        AWMLoss(theta, theta, copy.deepcopy(theta))
    with pytest.raises(ValueError, match="clip_epsilon must be > 0, got 0"):
        AWMLoss(*models(), clip_epsilon=0)
    with pytest.raises(ValueError, match="kl_weight >= 0, got -1"):
        AWMLoss(*models(), kl_weight=-1)


def test_images_get_brighter(tmp_path):
    check_learning(
        tmp_path, lambda theta, old, ref, renoise: (AWMLoss(theta, old, ref, clip_epsilon=0.1, kl_weight=0.01), renoise)
    )

"""DiffusionNFT loss: closed forms, signs, limits, precision, the module."""

import copy
from functools import partial

import pytest
import torch

from algorithms.losses.matching import TIME_WEIGHTS
from algorithms.losses.nft import NFTLoss, nft_loss, nft_loss_adaptive, residual
from cellenv.path import lift
from tests.algorithms.matching_toys import SHAPE, Scale, check_module, draw, models
from tests.algorithms.matching_toys import gradient as gradient_of
from tests.algorithms.matching_toys import rows as matching_rows


@pytest.fixture
def velocities():
    """v_theta, v_old, v, t, r in float64, different in every row."""
    t = torch.tensor([0.0, 0.3, 0.7, 0.95], dtype=torch.float64)
    r = torch.tensor([0.0, 0.2, 0.5, 0.9], dtype=torch.float64)
    return draw(*SHAPE, seed=1), draw(*SHAPE, seed=2), draw(*SHAPE, seed=3), t, r


gradient = partial(gradient_of, nft_loss)


@pytest.mark.parametrize("beta", [0.1, 1.0, 2.0])
def test_plain_gradient_is_zero_at_the_closed_form_optimum(velocities, beta):
    _, v_old, v, t, r = velocities
    optimum = v_old + lift(2 * r - 1, v) * (v - v_old) / beta
    assert gradient(optimum, v_old, v, t, r, beta=beta, adaptive=False).abs().max() < 1e-12
    assert gradient(optimum + 0.1, v_old, v, t, r, beta=beta, adaptive=False).abs().min() > 1e-3


def test_adaptive_gradient_is_not_zero_at_the_plain_optimum(velocities):
    _, v_old, v, t, _ = velocities
    r = torch.full_like(t, 0.8)
    optimum = v_old + lift(2 * r - 1, v) * (v - v_old)
    assert (gradient(optimum, v_old, v, t, r, beta=1.0).flatten(1).norm(dim=1) > 0.05 * (1 - t)).all()


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_adaptive_equals_its_formula_row_by_row(velocities, beta):
    v_theta, v_old, v, t, r = velocities
    expected = []
    for i in range(len(t)):
        form = {}
        for sign in (1, -1):
            e = (1 - t[i]) * (v_old[i] + sign * beta * (v_theta[i] - v_old[i]) - v[i])
            form[sign] = (e**2).sum() / e.numel() / max((e.abs().sum() / e.numel()).item(), 1e-5)
        expected.append(5 / beta * (r[i] * form[1] + (1 - r[i]) * form[-1]))
    torch.testing.assert_close(nft_loss_adaptive(v_theta, v_old, v, t, r, beta=beta), torch.stack(expected))


def test_adaptive_has_no_gradient_through_its_denominator(velocities):
    """At r = 1, beta = 1 the gradient is 5 * 2 (1 - t) e / (n mean|e|)."""
    v_theta, v_old, v, t, _ = velocities
    e = lift(1 - t, v) * (v_theta - v)
    expected = 10 * lift(1 - t, v) * e / (e[0].numel() * lift(e.abs().flatten(1).mean(1), v))
    torch.testing.assert_close(gradient(v_theta, v_old, v, t, torch.ones_like(t), beta=1.0), expected)


def test_adaptive_is_finite_for_a_perfect_prediction(velocities):
    _, _, v, t, r = velocities
    assert nft_loss(v, v, v, t, r, beta=1.0).abs().max() == 0
    tiny = nft_loss(v + 1e-7, v + 1e-7, v, torch.zeros_like(t), r, beta=1.0)
    torch.testing.assert_close(tiny, torch.full_like(tiny, 5 * 1e-14 / 1e-5), rtol=1e-6, atol=0)


@pytest.mark.parametrize("adaptive", [True, False])
def test_on_policy_the_gradient_does_not_depend_on_beta(velocities, adaptive):
    _, v_old, v, t, r = velocities
    one, other = (gradient(v_old, v_old, v, t, r, beta=beta, adaptive=adaptive) for beta in (0.1, 1.7))
    torch.testing.assert_close(one, other)
    assert one.abs().max() > 1e-3


@pytest.mark.parametrize("adaptive", [True, False])
def test_good_samples_attract_and_bad_ones_repel(velocities, adaptive):
    _, v_old, v, t, _ = velocities
    towards = (v - v_old).flatten(1)
    for r, sign in ((1.0, 1), (0.6, 1), (0.5, 0), (0.4, -1), (0.0, -1)):
        step = -gradient(v_old, v_old, v, t, torch.full_like(t, r), beta=0.7, adaptive=adaptive).flatten(1)
        assert torch.equal((step * towards).sum(1).sign(), torch.full_like(t, sign))


def test_plain_with_r_1_and_beta_1_is_five_times_flow_matching(velocities):
    v_theta, v_old, v, t, _ = velocities
    flow_matching = (v_theta - v).square().flatten(1).mean(1)
    plain = nft_loss(v_theta, v_old, v, t, torch.ones_like(t), beta=1.0, adaptive=False)
    torch.testing.assert_close(plain, 5 * flow_matching)


@pytest.mark.parametrize("adaptive", [True, False])
def test_old_policy_gets_no_gradient(velocities, adaptive):
    v_theta, v_old, v, t, r = velocities
    v_old = v_old.requires_grad_()
    assert not nft_loss(v_theta, v_old, v, t, r, beta=0.5, adaptive=adaptive).requires_grad


@pytest.mark.parametrize("adaptive", [True, False])
def test_rows_are_independent(velocities, adaptive):
    whole = nft_loss(*velocities, beta=0.5, adaptive=adaptive)
    alone = [nft_loss(*(x[i : i + 1] for x in velocities), beta=0.5, adaptive=adaptive) for i in range(SHAPE[0])]
    torch.testing.assert_close(whole, torch.cat(alone))


def test_low_precision_is_computed_in_float32_and_float64_stays(velocities):
    assert nft_loss(*velocities, beta=1.0).dtype == torch.float64
    v_theta, v_old, v, t, r = (x.bfloat16() for x in velocities)
    low = nft_loss(v_theta, v_old, v, t, r, beta=1.0)
    high = nft_loss(*(x.float() for x in (v_theta, v_old, v, t, r)), beta=1.0)
    assert low.dtype == torch.float32 and torch.equal(low, high)


def test_a_time_near_one_survives_bf16_networks(velocities):
    """In bf16 t = 0.999 would round to 1, and the loss to 0."""
    v_theta, v_old, v, _, r = velocities
    t = torch.full((4,), 0.999)
    low = nft_loss(v_theta.bfloat16(), v_old.bfloat16(), v.bfloat16(), t, r.float(), beta=1.0)
    torch.testing.assert_close(low.double(), nft_loss(v_theta, v_old, v, t.double(), r, beta=1.0), rtol=0.02, atol=0)


def test_wrong_arguments_raise(velocities):
    for adaptive in (True, False):
        with pytest.raises(ValueError, match="beta must be > 0, got 0"):
            nft_loss(*velocities, beta=0, adaptive=adaptive)
    v_theta, v_old, v, t, r = velocities
    with pytest.raises(ValueError, match="one value per sample"):
        nft_loss_adaptive(v_theta, v_old, v, t[:, None], r, beta=1.0)


def test_residual_is_one_for_a_shift_and_near_zero_for_noise():
    noise = draw(4096, 1, 2, 2, seed=5)
    assert residual(noise) < 0.03
    torch.testing.assert_close(residual(torch.ones(8, 2, 3).double()), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(residual(noise + 1).item(), 0.5**0.5, rtol=0.03, atol=0)  # 1 / sqrt(1 + 1)
    few = torch.stack([residual(piece).square() for piece in (noise + 1).split(8)]).mean()
    torch.testing.assert_close(few.item(), 0.5, rtol=0.05, atol=0)  # unbiased for small micro-batches
    assert residual(noise[:1]).isnan()


@pytest.fixture
def rows():
    return matching_rows(r=torch.tensor([0.0, 0.3, 0.5, 1.0]))


@pytest.mark.parametrize("weighting", TIME_WEIGHTS)
@pytest.mark.parametrize("adaptive", [True, False])
def test_module_feeds_the_formula(rows, adaptive, weighting):
    def expected(v_theta, v_old, v):
        return nft_loss(v_theta, v_old, v, rows["t"], rows["r"], beta=0.7, adaptive=adaptive)

    loss = NFTLoss(*models(), beta=0.7, kl_weight=0.01, kl_time_weight=TIME_WEIGHTS[weighting], adaptive=adaptive)
    out, (v_theta, v_old, v) = check_module(loss, "loss_nft", rows, expected, weighting)
    torch.testing.assert_close(out["drift"], (v_theta - v_old).square().mean())
    torch.testing.assert_close(out["residual"], residual(v_old - v))


def test_optimality_one_half_on_policy_gives_no_gradient(rows):
    theta = Scale(0.3, 0.1)
    loss = NFTLoss(theta, copy.deepcopy(theta), copy.deepcopy(theta))
    rows["r"] = torch.full((4,), 0.5)
    out = loss(rows)
    (out["loss_nft"] + out["loss_kl"]).backward()
    assert theta.a.grad == 0 and theta.b.grad == 0


def test_module_computes_in_float32_under_autocast(rows):
    loss = NFTLoss(*models())
    rows["t"], rows["r"] = torch.full((4,), 0.999), torch.ones(4)
    rows["x0"], rows["x1"] = rows["x0"].bfloat16(), rows["x1"].bfloat16()
    expected = loss(rows.float())["loss_nft"]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(rows)["loss_nft"], expected, rtol=1e-6, atol=0)
    assert expected > 1e-3


def test_wrong_arguments_of_the_module_raise():
    theta, old, ref = models()
    with pytest.raises(ValueError, match="beta > 0 and kl_weight >= 0"):
        NFTLoss(theta, old, ref, kl_weight=-1)
    with pytest.raises(ValueError, match="beta > 0 and kl_weight >= 0"):
        NFTLoss(theta, old, ref, beta=0)

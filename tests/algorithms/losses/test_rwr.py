"""RWR: the weights, their gradient, limits of the temperature, the module."""

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from algorithms.advantages import advantage, batch_std
from algorithms.losses.matching import TIME_WEIGHTS
from algorithms.losses.rwr import RWRLoss, build_rwr_batch, rwr_loss, rwr_weights
from algorithms.renoise import Renoise, group_coupling
from cellenv.path import lift
from tests.algorithms.matching_toys import (
    SHAPE,
    Scale,
    check_learning,
    check_module,
    draw,
    gradient,
    models,
    omega,
    rollout,
    rows,
)

GROUP = torch.tensor([7, 2, 7, 2, 7])


def test_weights_are_exponentials_over_their_group_mean():
    A, tau = torch.tensor([1.0, -0.5, 0.2, 2.0, -1.2]), 0.7
    e = [math.exp(a / tau) for a in A.tolist()]
    seven, two = (e[0] + e[2] + e[4]) / 3, (e[1] + e[3]) / 2
    expected = torch.tensor([e[0] / seven, e[1] / two, e[2] / seven, e[3] / two, e[4] / seven])
    torch.testing.assert_close(rwr_weights(A, GROUP, temperature=tau), expected)


def test_weights_ignore_a_shift_of_a_group_and_do_not_overflow():
    A = torch.tensor([1.0, -0.5, 0.2, 2.0, -1.2])
    expected = rwr_weights(A, GROUP, temperature=0.5)
    shifted = rwr_weights(A + torch.where(GROUP == 7, 3.0, -8.0), GROUP, temperature=0.5)
    torch.testing.assert_close(shifted, expected, rtol=1e-4, atol=0)
    assert rwr_weights(1e4 * A, GROUP, temperature=0.1).tolist() == [3, 0, 0, 2, 0]  # only the best of each group


def test_high_temperature_or_equal_advantages_give_weight_one():
    A = torch.tensor([1.0, -0.5, 0.2, 2.0, -1.2])
    torch.testing.assert_close(rwr_weights(A, GROUP, temperature=1e6), torch.ones(5))
    assert rwr_weights(torch.full((5,), -3.0), GROUP, temperature=1.0).tolist() == [1] * 5


def test_nan_has_weight_zero_and_does_not_affect_others():
    A = torch.tensor([1.0, float("nan"), 0.2, float("nan"), float("nan")])
    weights = rwr_weights(A, GROUP, temperature=0.5)
    without = rwr_weights(A[[0, 2]], GROUP[[0, 2]], temperature=0.5)
    assert weights[[1, 3, 4]].tolist() == [0, 0, 0]
    torch.testing.assert_close(weights[[0, 2]], without)
    assert without.mean() == pytest.approx(1)


def test_gradient_is_that_of_weighted_flow_matching():
    v_theta, v = draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    w = torch.tensor([0.0, 0.3, 1.0, 2.7], dtype=torch.float64)
    expected = 2 * lift(w, v) * (v_theta - v) / v[0].numel()
    torch.testing.assert_close(gradient(rwr_loss, v_theta, v, w), expected)


def test_the_optimum_is_the_tilted_mean():
    """The best constant velocity for targets v_i is sum w_i v_i / sum w_i."""
    v, A = draw(6, 1, 1, 2, seed=3), draw(6, seed=4)
    weight = rwr_weights(A, torch.zeros(6, dtype=torch.int64), temperature=0.4)
    tilted = (A / 0.4).softmax(0)
    best = (lift(tilted, v) * v).sum(0, keepdim=True).requires_grad_()
    rwr_loss(best.expand_as(v), v, weight).sum().backward()
    assert best.grad.abs().max() < 1e-6


def test_rows_are_independent_and_low_precision_is_computed_in_float32():
    v_theta, v, w = draw(*SHAPE, seed=1), draw(*SHAPE, seed=2), draw(4, seed=3).abs()
    whole = rwr_loss(v_theta, v, w)
    alone = [rwr_loss(v_theta[i : i + 1], v[i : i + 1], w[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(whole, torch.cat(alone))
    assert rwr_loss(v_theta.bfloat16(), v.bfloat16(), w.bfloat16()).dtype == torch.float32


def test_rows_carry_the_weight_of_their_sample():
    data = rollout([1.0, 5.0, 2.0, float("nan"), 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    renoise = Renoise(coupling=partial(group_coupling, noise_level=0.5), seed=0, times_per_sample=3)
    batch = build_rwr_batch(data, 2, renoise=renoise, temperature=0.5)
    reward, group = data["next", "reward"].squeeze(1), data["group"]
    A = advantage(reward, group, batch_std(reward))
    A[3] = torch.nan
    expected = rwr_weights(A, group, temperature=0.5)
    samples = batch["x1"][:, 0, 0, 0].long()  # an image holds its row index
    assert torch.equal(batch["weight"], expected[samples]) and len(samples) == 18
    assert batch["weight"][9:12].tolist() == [0, 0, 0] and batch["weight"].sum() == pytest.approx(3 * 5)


def test_weights_are_among_the_images_that_are_trained_on():
    data = rollout([1.0, 5.0, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    renoise = Renoise(coupling=partial(group_coupling, noise_level=0.5), seed=0, times_per_sample=1, train_on=2)
    batch = build_rwr_batch(data, 2, renoise=renoise, temperature=0.5)
    kept = torch.tensor([0, 1, 4, 5])
    reward, group = data["next", "reward"].squeeze(1)[kept], data["group"][kept]
    expected = rwr_weights(advantage(reward, group, batch_std(reward)), group, temperature=0.5)
    assert torch.equal(batch["x1"][:, 0, 0, 0].long(), kept) and torch.equal(batch["weight"], expected)


def test_ranks_share_the_scale_of_the_reward():
    data = rollout([1.0, 5.0, 2.0, 3.0, 0.0, 90.0], [4, 4, 4, 9, 9, 9])
    renoise = Renoise(coupling=partial(group_coupling, noise_level=0.5), seed=0)
    whole = build_rwr_batch(data, 2, renoise=renoise, temperature=0.5)["weight"]
    of_rank = replace(renoise, gather=lambda own: data["next", "reward"].squeeze(1))
    parts = [build_rwr_batch(data[i : i + 3], 2, renoise=of_rank, temperature=0.5)["weight"] for i in (0, 3)]
    assert torch.equal(torch.cat(parts), whole)


def test_the_scale_of_the_reward_does_not_matter():
    renoise = Renoise(coupling=partial(group_coupling, noise_level=0.5), seed=0)
    build = partial(build_rwr_batch, renoise=renoise, temperature=0.5)
    rewards = [1.0, 5.0, 2.0, 3.0, 0.0, 9.0]
    one = build(rollout(rewards, [0, 0, 0, 1, 1, 1]), 0)["weight"]
    other = build(rollout([30 * r + 7 for r in rewards], [0, 0, 0, 1, 1, 1]), 0)["weight"]
    torch.testing.assert_close(one, other, rtol=1e-3, atol=0)


@pytest.mark.parametrize("weighting", TIME_WEIGHTS)
def test_module_feeds_the_formula(weighting):
    w = torch.tensor([0.0, 0.5, 1.0, 2.5])
    data = rows(weight=w)
    loss = RWRLoss(*models(), kl_weight=0.01, time_weight=TIME_WEIGHTS[weighting])
    check_module(
        loss,
        "loss_rwr",
        data,
        lambda v_theta, _, v: omega(weighting, data["t"]) * rwr_loss(v_theta, v, w),
    )


def test_wrong_arguments_raise():
    theta = Scale(0.3, 0.1)
    with pytest.raises(ValueError, match="three sets of weights"):
        RWRLoss(theta, copy.deepcopy(theta), theta)
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        rwr_weights(torch.zeros(2), torch.zeros(2), temperature=0)


def test_images_get_brighter(tmp_path):
    def make(theta, old, ref, renoise):
        return RWRLoss(theta, old, ref, kl_weight=0.01), partial(build_rwr_batch, renoise=renoise, temperature=0.3)

    check_learning(tmp_path, make)

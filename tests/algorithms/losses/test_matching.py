"""Losses on re-noised samples: squared error, precision, regression inputs, KL penalty."""

import copy

import pytest
import torch

from algorithms.losses.matching import (
    TIME_WEIGHTS,
    MatchingLoss,
    at_least_fp32,
    end_point_weight,
    flow_matching,
    in_share,
    scaled_square,
)
from algorithms.training_times import stratified_levels, uniform_time
from cellenv.path import lift
from tests.algorithms.matching_toys import SHAPE, Scale, draw, models, omega, rows, velocities_of


def test_flow_matching_is_the_mean_square_of_each_row():
    v_theta, v = draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    expected = [torch.nn.functional.mse_loss(v_theta[i], v[i]) for i in range(len(v))]
    torch.testing.assert_close(flow_matching(v_theta, v), torch.stack(expected))


def test_scaled_square_has_no_gradient_through_its_unit():
    e, unit = draw(*SHAPE, seed=1).requires_grad_(), draw(*SHAPE, seed=2).requires_grad_()
    scaled = scaled_square(e, unit)
    torch.testing.assert_close(scaled, e.square().mean((1, 2, 3)) / unit.abs().mean((1, 2, 3)))
    scaled.sum().backward()
    assert unit.grad is None and e.grad is not None
    torch.testing.assert_close(scaled_square(e, 0 * unit), 1e5 * e.square().mean((1, 2, 3)))


def test_the_end_point_weight_measures_the_error_of_the_predicted_end_point():
    v_theta, v, x_t = (draw(*SHAPE, seed=seed) for seed in (1, 2, 3))
    t = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
    end_points = [x_t + lift(1 - t, x_t) * velocity for velocity in (v_theta, v)]
    expected = 3 * flow_matching(*end_points)
    torch.testing.assert_close(end_point_weight(t) * flow_matching(v_theta, v), expected)
    for name, weight in TIME_WEIGHTS.items():
        torch.testing.assert_close(weight(t), omega(name, t))


@pytest.mark.parametrize("name", TIME_WEIGHTS)
def test_the_mean_weight_over_the_training_times_is_one(name):
    t = uniform_time((torch.arange(4000) + 0.5) / 4000)
    assert TIME_WEIGHTS[name](t).mean().item() == pytest.approx(1, abs=0.01)


def test_tensors_are_cast_to_the_widest_type_and_at_least_float32():
    def dtypes(*tensors):
        return {tensor.dtype for tensor in at_least_fp32(*(torch.ones(1, dtype=dtype) for dtype in tensors))}

    assert dtypes(torch.bfloat16, torch.float16) == {torch.float32}
    assert dtypes(torch.bfloat16, torch.float64) == {torch.float64}


def test_regression_inputs_follow_the_straight_path_from_x0_to_x1():
    data = rows()
    loss = MatchingLoss(*models())
    inputs = loss.regression_inputs(data)
    x0, x1 = data["x0"], data["x1"]
    for i, t in enumerate(data["t"].tolist()):
        torch.testing.assert_close(inputs.x_t[i], (1 - t) * x0[i] + t * x1[i])
    assert torch.equal(inputs.v, x1 - x0) and torch.equal(inputs.t, data["t"])
    assert torch.equal(inputs.v_theta, loss.model(inputs.x_t, inputs.t, data["condition"]))
    torch.testing.assert_close(inputs.omega, omega("end-point", data["t"]))


def test_kl_penalty_moves_theta_towards_the_reference():
    theta = Scale(0.3, 0.0)
    loss = MatchingLoss(theta, copy.deepcopy(theta), Scale(0.9, 0.0), kl_weight=1.0)
    loss.kl_penalty(loss.regression_inputs(rows()), rows())["loss_kl"].backward()
    assert theta.a.grad < 0  # a gradient step raises a towards 0.9


@pytest.mark.parametrize("share", [0.2, 1 / 3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("period", [1, 2, 3, 4, 6])
def test_a_share_is_spread_over_groups_and_time_draws(share, period):
    """Of each place in a sample or in a group, and of each group, the same share."""
    taken = in_share(torch.arange(480), share)
    for label in (torch.arange(480) % period, torch.arange(480) // (480 // period)):
        counts = torch.bincount(label[taken], minlength=period)
        assert (counts - share * 480 / period).abs().max() <= 3


@pytest.mark.parametrize("parts", [18, 36, 72, 89])
def test_a_share_is_spread_over_micro_batches(parts):
    taken = in_share(torch.arange(864), 1 / 3)
    assert taken.sum() == 288
    counts = torch.stack([taken[m::parts].sum() for m in range(parts)])
    assert (counts - 288 / parts).abs().max() <= 3 and counts.min() > 0


def test_the_times_of_a_share_are_spread_like_those_of_all():
    """Of one stratified time per image, for any shift of the levels: a share by the golden ratio has one window."""
    row = torch.arange(144)
    for seed in range(20):
        u = stratified_levels(row, 0 * row, K=1, rng=torch.Generator().manual_seed(seed))
        assert u[in_share(row, 1 / 3)].mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("weighting", TIME_WEIGHTS)
def test_kl_is_estimated_on_a_share_of_the_rows(weighting):
    data, share = rows(), 0.5
    loss = MatchingLoss(*models(), kl_weight=0.3, kl_share=share, kl_time_weight=TIME_WEIGHTS[weighting])
    evaluated = []
    loss.model_ref.register_forward_hook(lambda module, inputs, output: evaluated.append(len(output)))
    out = loss.kl_penalty(loss.regression_inputs(data), data)
    assert evaluated == [3]
    v_theta, _, v_ref, _ = velocities_of(loss, data)
    square = omega(weighting, data["t"]) * (v_theta - v_ref).square().flatten(1).mean(1)
    kl = square[[0, 2, 3]].sum() / (share * 4)  # 0, 2 x 1.732 = 3.464 and 5.196 are less than a half above an integer
    torch.testing.assert_close(out["kl"], kl.detach())
    torch.testing.assert_close(out["loss_kl"], 0.3 * kl)


def test_the_pull_on_a_share_of_the_rows_is_that_of_their_parts():
    """Even of a part without a row in the share, where the base is evaluated all the same: its shards wait for all."""
    theta, old, ref = models()
    loss = MatchingLoss(theta, old, ref, kl_share=1 / 3)
    data = torch.cat([rows(), rows()]).set("row", torch.arange(8))
    whole = loss.kl_penalty(loss.regression_inputs(data), data)["kl"]
    parts = [loss.kl_penalty(loss.regression_inputs(part), part) for part in data[torch.randperm(8)].split(1)]
    torch.testing.assert_close(torch.stack([part["kl"] for part in parts]).mean(), whole)
    nothing = [part for part in parts if part["kl"] == 0]
    assert 0 < len(nothing) < 8 and all(part["norm_ratio"].isfinite() for part in nothing)


def test_norm_ratio_is_the_size_of_theta_beside_the_reference():
    data = rows()
    data["condition"] = torch.zeros_like(data["condition"])
    loss = MatchingLoss(Scale(0.3, 0.0), Scale(0.0, 0.0), Scale(-0.6, 0.0))
    found = loss.kl_penalty(loss.regression_inputs(data), data)["norm_ratio"]
    assert not found.requires_grad and found.item() == pytest.approx(0.5)


def test_two_uses_of_one_module_and_numbers_out_of_range_raise():
    theta, old, ref = models()
    for shared in ((theta, theta, ref), (theta, old, theta), (theta, old, old)):
        with pytest.raises(ValueError, match="three sets of weights"):
            MatchingLoss(*shared)
    with pytest.raises(ValueError, match="kl_weight >= 0, got -1"):
        MatchingLoss(theta, old, ref, kl_weight=-1)
    for share in (0, 1.5):
        with pytest.raises(ValueError, match=f"need 0 < kl_share <= 1, the share of the rows; got {share}"):
            MatchingLoss(theta, old, ref, kl_share=share)

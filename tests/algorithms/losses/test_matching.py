"""Losses on re-noised samples: squared error, precision, regression inputs, KL penalty."""

import copy

import pytest
import torch

from algorithms.losses.matching import MatchingLoss, at_least_fp32, flow_matching
from tests.algorithms.matching_toys import SHAPE, Scale, draw, models, rows


def test_flow_matching_is_the_mean_square_of_each_row():
    v_theta, v = draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    expected = [torch.nn.functional.mse_loss(v_theta[i], v[i]) for i in range(len(v))]
    torch.testing.assert_close(flow_matching(v_theta, v), torch.stack(expected))


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


def test_kl_penalty_moves_theta_towards_the_reference():
    theta = Scale(0.3, 0.0)
    loss = MatchingLoss(theta, copy.deepcopy(theta), Scale(0.9, 0.0), kl_weight=1.0)
    loss.kl_penalty(loss.regression_inputs(rows()), rows())["loss_kl"].backward()
    assert theta.a.grad < 0  # a gradient step raises a towards 0.9


def test_norm_ratio_is_the_size_of_theta_beside_the_reference():
    data = rows()
    data["condition"] = torch.zeros_like(data["condition"])
    loss = MatchingLoss(Scale(0.3, 0.0), Scale(0.0, 0.0), Scale(-0.6, 0.0))
    found = loss.kl_penalty(loss.regression_inputs(data), data)["norm_ratio"]
    assert not found.requires_grad and found.item() == pytest.approx(0.5)


def test_two_uses_of_one_module_and_a_negative_weight_raise():
    theta, old, ref = models()
    for shared in ((theta, theta, ref), (theta, old, theta), (theta, old, old)):
        with pytest.raises(ValueError, match="three sets of weights"):
            MatchingLoss(*shared)
    with pytest.raises(ValueError, match="kl_weight >= 0, got -1"):
        MatchingLoss(theta, old, ref, kl_weight=-1)

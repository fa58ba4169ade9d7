"""Guidance distillation: the formula, its minimum, the module."""

import pytest
import torch
from torch import nn

from algorithms.losses.distillation import DistillationLoss
from algorithms.losses.matching import TIME_WEIGHTS
from cellenv.generator import Sampling
from cellenv.path import lift
from tests.algorithms.matching_toys import Scale, check_outputs, omega, rows, velocities_of


class Teacher(Scale):
    """Scale that also gives what classifier-free guidance makes of it."""

    def guided(self, x_t, t, condition, sampling):
        w = lift(sampling.guidance_at(t), x_t)
        return (1 + w) * self(x_t, t, condition) - w * self(x_t, t, torch.zeros_like(condition))


def loss(theta=None, *, time_weight=TIME_WEIGHTS["velocity"], **sampling):
    models = theta or Scale(0.3, 0.1), Scale(0.2, -0.1), Teacher(0.5, 0.2)
    return DistillationLoss(*models, sampling=Sampling(**sampling), time_weight=time_weight)


@pytest.mark.parametrize("weighting", TIME_WEIGHTS)
@pytest.mark.parametrize("power", [0.0, 2.0])
def test_it_is_the_weighted_distance_to_the_guided_teacher(weighting, power):
    data = rows()
    w = lift(0.7 * data["t"] ** power, data["x0"])
    module = loss(guidance=0.7, guidance_power=power, time_weight=TIME_WEIGHTS[weighting])
    with torch.no_grad():
        v_theta, _, v_ref, _ = velocities_of(module, data)
    guided = v_ref + w * lift(data["condition"].mean(1), v_ref)  # what Scale adds for a condition
    expected = (omega(weighting, data["t"]) * (v_theta - guided).square().flatten(1).mean(1)).mean()
    out = check_outputs(module, data, ["loss_distil"])
    torch.testing.assert_close(out["loss_distil"], expected)


def test_before_its_time_guidance_does_not_act():
    data = rows()
    since = data["t"].median().item()
    module = loss(guidance=0.7, guidance_from=since)
    early, late = (loss(guidance=w) for w in (1e-9, 0.7))
    found = module(data)["loss_distil"] * len(data)
    parts = [(early, data[data["t"] < since]), (late, data[data["t"] >= since])]
    torch.testing.assert_close(found, sum(module(part)["loss_distil"] * len(part) for module, part in parts))


def test_at_the_guided_velocity_loss_and_gradient_are_zero():
    class Guided(nn.Module):
        """What the teacher is with guidance 0.7, in one evaluation."""

        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Parameter(torch.tensor(x)) for x in (0.5, 0.2, 1.7))

        def forward(self, x_t, t, condition):
            return self.a * x_t + self.b * lift(t, x_t) + self.c * lift(condition.mean(1), x_t)

    theta = Guided()
    value = loss(theta, guidance=0.7)(rows())["loss_distil"]
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-10)
    assert all(parameter.grad.abs().item() < 1e-4 for parameter in theta.parameters())


@pytest.mark.parametrize("since", [-0.1, 1.0, float("nan")])
def test_guidance_from_another_time_than_those_of_the_flow_is_refused(since):
    with pytest.raises(ValueError, match=r"need guidance_from in \[0, 1\)"):
        loss(guidance=0.2, guidance_from=since)


@pytest.mark.parametrize("guidance", [-0.2, float("nan")])
def test_guidance_that_is_none_is_refused(guidance):
    with pytest.raises(ValueError, match="need noise_level and guidance from 0"):
        loss(guidance=guidance)


def test_without_guidance_there_is_nothing_to_distil():
    with pytest.raises(ValueError, match="need guidance > 0"):
        loss(guidance=0.0)

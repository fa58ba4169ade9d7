import math

import pytest
import torch

from cellenv.path import edm_times, lift, uniform_times, velocity
from cellenv.solvers import SOLVERS, velocity_times

ORDER = {"euler": 1, "heun": 2, "midpoint": 2, "multistep": 2}


def rotation_that_slows(x, t):
    """dx/dt = cos(t) J x: the exact solution turns by sin(t)."""
    return lift(t.cos(), x) * torch.stack([-x[:, 1], x[:, 0]], dim=1)


def uneven(steps):
    """A grid from 0 to 1 whose steps are h, 3 h, h, 3 h, ...: no ratio of neighbours goes to 1 as h goes to 0."""
    h = torch.tensor([1.0, 3.0], dtype=torch.float64).repeat(steps // 2) / (2 * steps)
    return torch.cat([h.new_zeros(1), h.cumsum(0)])


@pytest.mark.parametrize("times", [uniform_times, uneven])
@pytest.mark.parametrize("name", SOLVERS)
def test_order_of_convergence(name, times):
    start = torch.tensor([[1.0, 0.0], [0.3, -2.0]], dtype=torch.float64)
    angle = math.sin(1.0)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    steps = torch.tensor([16, 32, 64, 128], dtype=torch.float64)
    error = [(SOLVERS[name](rotation_that_slows, start, times(int(k))) - start @ turn).abs().max() for k in steps]
    x, y = -steps.log(), torch.stack(error).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert slope == pytest.approx(ORDER[name], abs=0.15)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("name", SOLVERS)
def test_straight_path_lands_on_x1(name, steps):
    x0, x1 = torch.randn(2, 3, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arrived = SOLVERS[name](lambda x, t: velocity(x0, x1), x0, uniform_times(steps))
    torch.testing.assert_close(arrived, x1, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "evaluations"), [("euler", 5), ("heun", 10), ("midpoint", 10), ("multistep", 5)])
def test_evaluations_and_their_times(name, evaluations):
    seen = []

    def v(x, t):
        seen.append(t)
        return torch.zeros_like(x)

    SOLVERS[name](v, torch.zeros(3, 3, dtype=torch.bfloat16), uniform_times(5))
    assert len(seen) == evaluations
    assert all(t.shape == (3,) and t.dtype == torch.float32 and 0 <= t.min() <= t.max() <= 1 for t in seen)


def test_heun_takes_100_evaluations_on_the_grid_of_the_published_sampler():
    calls = []
    SOLVERS["heun"](lambda x, t: (calls.append(t), x)[1], torch.zeros(1, 2), edm_times(50))
    assert len(calls) == 100


@pytest.mark.parametrize("times", [[0.0], [0.0, 1.0, 1.0], [1.0, 0.0], [[0.0, 1.0]], [0.0, float("nan")]])
@pytest.mark.parametrize("name", SOLVERS)
def test_times_must_increase(name, times):
    with pytest.raises(ValueError, match="increasing"):
        SOLVERS[name](lambda x, t: x, torch.zeros(2, 2), torch.tensor(times))


def test_velocity_times_are_those_of_the_evaluations():
    times = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    asked = {name: velocity_times(solver, times).tolist() for name, solver in SOLVERS.items()}
    assert asked["euler"] == asked["multistep"] == [0.0, 0.25]
    assert (asked["heun"], asked["midpoint"]) == ([0.0, 0.25, 0.25, 1.0], [0.0, 0.125, 0.25, 0.625])

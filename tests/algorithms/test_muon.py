"""Muon: torch's own on matrices and AdamW on vectors, scale of a step, resuming."""

from functools import partial

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from algorithms.muon import Muon, orthogonalise


def layers(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).double()


def train(model, optimizer, steps):
    for step in range(steps):
        x = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def test_filters_step_as_torch_muon_on_matrices_and_biases_as_adamw():
    model, lr, decay = layers(), 0.03, 0.1
    before = [p.detach().clone() for p in model.parameters()]
    after = train(model, Muon(model.parameters(), lr, weight_decay=decay), 1)
    for parameter, then, now in zip(model.parameters(), before, after, strict=True):
        if parameter.ndim > 1:
            expected = nn.Parameter(then.flatten(1).clone())
            expected.grad = parameter.grad.flatten(1)
            torch.optim.Muon([expected], lr, decay, adjust_lr_fn="match_rms_adamw").step()
        else:
            expected = nn.Parameter(then.clone())
            expected.grad = parameter.grad
            torch.optim.AdamW([expected], lr, (0.9, 0.95), weight_decay=decay).step()
        tolerance = 0.1 if parameter.ndim > 1 else 0  # of a step: torch orthogonalises in bfloat16
        size = (now - then).abs().max().item()
        torch.testing.assert_close(now, expected.detach().view_as(now), rtol=0, atol=tolerance * size)
        assert size > 0


def test_step_is_orthogonal_with_the_rms_of_adamw():
    weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
    weight.grad = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([weight, nn.Parameter(torch.zeros(1))], 1.0, weight_decay=0).step()
    singular = torch.linalg.svdvals(weight.detach().flatten(1)) / (0.2 * 36**0.5)
    assert ((singular > 0.5) & (singular < 1.5)).all()  # accuracy of five Newton-Schulz steps
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_newton_schulz_moves_the_singular_values_alone(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonalise(matrix), (u * s @ vh).float(), rtol=0, atol=1e-5)
    assert ((s > 0.6) & (s < 1.3)).all()
    assert orthogonalise(torch.zeros(shape)).equal(torch.zeros(shape))


def test_learning_rate_of_the_group_is_used():
    model = layers()
    optimizer = Muon(model.parameters(), 0.1, weight_decay=0)
    optimizer.param_groups[0]["lr"] = 0.0
    before = [p.detach().clone() for p in model.parameters()]
    assert all(map(torch.equal, before, train(model, optimizer, 1)))


def test_resumed_equals_uninterrupted():
    whole = layers()
    expected = train(whole, Muon(whole.parameters(), 0.01), 4)
    first = layers()
    optimizer = Muon(first.parameters(), 0.01)
    train(first, optimizer, 2)
    state = optimizer.state_dict()
    second = Muon(first.parameters(), 0.01)
    second.load_state_dict(state)
    for step in (2, 3):
        x = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        second.zero_grad()
        first(x).square().mean().backward()
        second.step()
    assert all(map(torch.equal, expected, first.parameters()))


def test_reallocated_weights_move_and_weights_without_gradient_stay():
    model = layers()
    optimizer = Muon(model.parameters(), 0.01)
    model.float()  # reallocates the weights, as `.to(device)` does
    before = model[0].weight.detach().clone()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    still = model[2].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)
    assert torch.equal(model[2].weight, still)


def test_groups_have_their_own_learning_rates_and_may_hold_weights_alone():
    model, alone = layers(), layers()
    groups = [{"params": [model[0].weight]}, {"params": [model[0].bias, *model[2].parameters()]}]
    optimizer = Muon(groups, 0.1, weight_decay=0)
    for group, lr in zip(optimizer.param_groups, (0.03, 0.01), strict=True):
        group["lr"] = lr
    start = [p.detach().clone() for p in model.parameters()]
    fast, *rest = train(model, optimizer, 1)
    one = train(alone, Muon(alone.parameters(), 0.01, weight_decay=0), 1)
    torch.testing.assert_close(fast - start[0], 3 * (one[0] - start[0]))
    assert all(map(torch.equal, rest, one[1:]))


@pytest.fixture
def shard():
    """A function that takes this process's part of a tensor: the first of eight processes, which exchange nothing."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    mesh = init_device_mesh("cpu", (8,))
    yield partial(distribute_tensor, device_mesh=mesh, placements=[Shard(0)], src_data_rank=None)
    distributed.destroy_process_group()


@pytest.mark.parametrize("shape", [(3, 8, 3, 3), (1, 6), (16, 8, 3, 3)])
def test_a_weight_in_shards_moves_also_with_fewer_rows_than_shards(shard, shape):
    weight = nn.Parameter(shard(torch.zeros(shape)))
    weight.grad = shard(torch.ones(shape))
    Muon([weight], 0.1).step()
    assert weight.placements == (Shard(0),) and weight.to_local().count_nonzero() > 0

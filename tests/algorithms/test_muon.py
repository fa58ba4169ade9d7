"""Muon: equal to torch's on matrices and AdamW on vectors, scale of a step, resuming."""

import pytest
import torch
from torch import nn

from algorithms.muon import Muon


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
        assert torch.equal(now, expected.detach().view_as(now))
        assert not torch.equal(now, then)


def test_step_is_orthogonal_with_the_rms_of_adamw():
    weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
    weight.grad = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([weight, nn.Parameter(torch.zeros(1))], 1.0, weight_decay=0).step()
    singular = torch.linalg.svdvals(weight.detach().flatten(1)) / (0.2 * 36**0.5)
    assert ((singular > 0.5) & (singular < 1.5)).all()  # accuracy of five Newton-Schulz steps
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


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

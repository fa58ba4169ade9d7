"""EMA of weights: the recursion, swapping, precision, resuming."""

import pytest
import torch
from torch import nn

from algorithms.ema import EMA


@pytest.fixture
def model():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    model[1].requires_grad_(False)
    return model


def fill(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


@pytest.mark.parametrize("decay", [0.999, 0.3])
def test_average_equals_the_recursion(model, decay):
    fill(model, 1.0)
    ema, expected = EMA(model, decay), 1.0
    for n in range(1, 40):
        fill(model, float(n))
        ema.update(model)
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * n
    for value in ema.average.values():
        torch.testing.assert_close(value, torch.full_like(value, expected))


def test_swapped_uses_the_average_and_restores_the_weights(model):
    fill(model, 0.0)
    ema = EMA(model)
    fill(model, 5.0)
    with ema.swapped(model):
        assert (model[0].weight == 0).all()
        assert (model[1].weight == 5).all(), "parameters that do not train keep their values"
    assert (model[0].weight == 5).all()
    with pytest.raises(RuntimeError, match="inside"), ema.swapped(model):
        raise RuntimeError("inside")
    assert (model[0].weight == 5).all()


def test_the_average_shares_no_memory_with_the_model(model):
    fill(model, 0.0)
    ema = EMA(model)
    fill(model, 5.0)
    assert all((value == 0).all() for value in ema.average.values())
    with ema.swapped(model):
        fill(model, 7.0)
    assert all((value == 0).all() for value in ema.average.values())


def test_bfloat16_weights_are_averaged_in_float32():
    model = nn.Linear(4, 4, bias=False).bfloat16()
    fill(model, 1.0)
    ema = EMA(model, 0.999)
    ema.updates = 100_000
    fill(model, 2.0)
    ema.update(model)
    change = ema.average["weight"].double() - 1
    torch.testing.assert_close(change, torch.full_like(change, 0.001), rtol=1e-3, atol=0)  # not 0


def test_resumed_equals_uninterrupted(model):
    uninterrupted, rng = EMA(model, 0.5), torch.Generator().manual_seed(0)
    weights = [torch.randn(2, 3, dtype=torch.float64, generator=rng) for _ in range(6)]
    stopped = EMA(model, 0.5)
    for i, weight in enumerate(weights):
        model[0].weight.data.copy_(weight)
        uninterrupted.update(model)
        if i == 3:
            state, stopped = stopped.state_dict(), EMA(model, 0.5)
            before = state["average"]["0.weight"].clone()
            stopped.load_state_dict(state)
        stopped.update(model)
    assert torch.equal(state["average"]["0.weight"], before), "the loaded state is copied"
    assert all(torch.equal(uninterrupted.average[name], stopped.average[name]) for name in uninterrupted.average)


def test_another_model_raises(model):
    ema = EMA(model)
    with pytest.raises(ValueError, match="another model"):
        ema.load_state_dict(EMA(nn.Linear(3, 3)).state_dict())
    with pytest.raises(ValueError, match="2 trained tensors; got 4"):
        ema.update(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="decay"):
        EMA(model, 1.0)

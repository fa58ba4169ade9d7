"""LoRA adapters: unchanged output at first, only adapters train, merging restores plain layers."""

import copy
import sys

import pytest
import torch
from torch import nn

from algorithms.lora import add_lora, merge_lora
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at

pytestmark = pytest.mark.slow  # importing peft
CONFIG = UNetConfig(size=(3, 8, 8), condition_dim=5, width=8, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0)


def network():
    net = UNet(CONFIG)
    for i, parameter in enumerate(net.parameters()):
        nn.init.normal_(parameter, std=0.1, generator=rng_at(3, i))
    return net


def call(net):
    rng = rng_at(4)
    x, condition = torch.randn(2, 3, 8, 8, generator=rng), torch.randn(2, 5, generator=rng)
    return net(x, torch.tensor([0.2, 0.9]), condition)


def test_output_is_unchanged_at_first_and_only_adapters_train():
    plain = network()
    lora = add_lora(copy.deepcopy(plain), rng_at(0), rank=2, alpha=4.0)
    torch.testing.assert_close(call(lora), call(plain))
    trained = {name for name, parameter in lora.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    call(lora).square().sum().backward()
    assert {name for name, p in lora.named_parameters() if p.grad is not None} == trained
    layers = [m for m in plain.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    assert len(trained) == 2 * len(layers)  # an A and a B for each


def test_adapters_are_drawn_from_rng_alone():
    one, two = network(), network()
    before = torch.get_rng_state()
    one, two = add_lora(one, rng_at(0), rank=2), add_lora(two, rng_at(0), rank=2)
    assert torch.equal(torch.get_rng_state(), before)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, two.get_parameter(name))
    other = add_lora(network(), rng_at(1), rank=2)
    assert any(not torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters())


def test_merged_is_a_plain_network_of_the_same_function():
    lora = add_lora(network(), rng_at(0), rank=2, alpha=4.0)
    for name, parameter in lora.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1, generator=rng_at(7))
    expected = call(lora).detach()
    assert (expected - call(network())).abs().max() > 1e-3
    merged = merge_lora(lora)
    torch.testing.assert_close(call(merged).detach(), expected, rtol=1e-4, atol=1e-5)
    assert merged.state_dict().keys() == network().state_dict().keys()
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_without_peft_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'cellfluxrl\[lora\]'"):
        add_lora(network(), rng_at(0))


def test_a_rank_of_zero_raises():
    with pytest.raises(ValueError, match="need rank >= 1"):
        add_lora(network(), rng_at(0), rank=0)

"""Compiling in place: what is compiled, what stays as it was, and a machine without a compiler. No compiler runs."""

import copy

import pytest
import torch
from torch import nn

from algorithms.compilation import compile_networks


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))


def test_calls_are_compiled_and_weights_and_copies_are_as_before(network, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: lambda *args: function(*args) + 1)
    x, before = torch.ones(3, 2), {name: value.clone() for name, value in network.state_dict().items()}
    plain = network(x)
    compile_networks([network], "cpu")
    torch.testing.assert_close(network(x), plain + 1)
    after = network.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(copy.deepcopy(network)(x), plain)


@pytest.mark.parametrize("error", [RuntimeError, ImportError])
def test_without_a_compiler_a_warning_says_why_and_nothing_changes(network, monkeypatch, caplog, error):
    def compiled(function):
        def call(x):
            raise error("no C++ compiler\nfound in a long list")

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    plain = network(torch.ones(3, 2))
    compile_networks([network], "cpu")
    assert torch.equal(network(torch.ones(3, 2)), plain)
    assert caplog.messages == ["networks are not compiled, since this machine cannot compile for cpu: no C++ compiler"]


def test_networks_that_will_be_sharded_are_refused(network, fsdp2):
    with pytest.raises(ValueError, match="--compile is not supported with FSDP"):
        compile_networks([network], "cpu")

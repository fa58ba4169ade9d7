"""NFE of small networks, against counts by hand."""

import pytest
import torch
from torch import nn

from algorithms.nfe import FunctionEvaluations, count_nfe


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def test_a_backward_pass_counts_twice_and_only_if_it_runs():
    net, x = network(), torch.ones(3, 4)
    with count_nfe([net]) as nfe:
        with torch.no_grad():
            net(x)
        assert nfe == FunctionEvaluations(forward=3) and nfe.total == 3
        out = net(x[:2])
        assert nfe == FunctionEvaluations(forward=5)
        out.sum().backward()
    assert nfe == FunctionEvaluations(forward=5, backward=2) and nfe.total == 9


def test_a_frozen_network_has_no_backward_pass():
    theta, ref, x = network(), network().requires_grad_(False), torch.ones(5, 4)
    with count_nfe([theta, ref]) as nfe:
        (theta(x) - ref(x)).square().sum().backward()
    assert nfe == FunctionEvaluations(forward=10, backward=5)


def test_only_listed_networks_inside_the_context_count_and_only_once():
    net, other, x = network(), network(), torch.ones(7, 4)
    net(x)
    with count_nfe([net, net]) as nfe:
        net(x)
        other(x)
    net(x)
    assert nfe == FunctionEvaluations(forward=7)


def test_hooks_are_removed_after_an_error():
    net = network()
    with pytest.raises(RuntimeError), count_nfe([net]):
        net(torch.ones(1, 3))
    assert not net._forward_hooks

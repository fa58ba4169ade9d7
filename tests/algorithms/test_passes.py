"""Passes counted on small networks, against counting by hand."""

import torch
from torch import nn

from algorithms.passes import Passes, counting


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def test_a_backward_pass_counts_two_and_only_when_it_happens():
    net, x = network(), torch.ones(3, 4)
    with counting([net]) as passes:
        with torch.no_grad():
            net(x)
        assert passes == Passes(forward=3) and passes.total == 3
        out = net(x[:2])
        assert passes == Passes(forward=5)
        out.sum().backward()
    assert passes == Passes(forward=5, backward=2) and passes.total == 9


def test_a_frozen_network_goes_forward_only():
    theta, ref, x = network(), network().requires_grad_(False), torch.ones(5, 4)
    with counting([theta, ref]) as passes:
        (theta(x) - ref(x)).square().sum().backward()
    assert passes == Passes(forward=10, backward=5)


def test_what_is_outside_or_another_network_is_not_counted_and_one_is_not_counted_twice():
    net, other, x = network(), network(), torch.ones(7, 4)
    net(x)
    with counting([net, net]) as passes:
        net(x)
        other(x)
    net(x)
    assert passes == Passes(forward=7)


def test_hooks_go_even_after_an_error():
    net = network()
    try:
        with counting([net]):
            net(torch.ones(1, 3))
    except RuntimeError:
        pass
    assert not net._forward_hooks

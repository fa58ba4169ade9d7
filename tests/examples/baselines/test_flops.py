"""Operations of known layers, and of their gradients of first and second order."""

import torch
from torch import nn

from cellenv.networks import Attention
from examples.baselines.flops import count_flops


def test_a_layer_and_its_gradients():
    layer, x = nn.Linear(5, 7, bias=False), torch.randn(3, 5, requires_grad=True)
    assert count_flops(lambda: layer(x)) == 2 * 3 * 5 * 7
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * 2 * 3 * 5 * 7  # each gradient costs as much
    conv = nn.Conv2d(2, 4, 3, padding=1)
    assert count_flops(lambda: conv(torch.zeros(1, 2, 6, 6))) == 2 * 36 * 9 * 2 * 4


def test_attention_counts_on_a_cpu():
    n, f, h = 16, 8, torch.zeros(2, 8, 4, 4)  # torch has no count for the fused kernel of CPUs
    assert count_flops(lambda: Attention(f)(h)) == 2 * (2 * n * f * 3 * f + 2 * 2 * n * n * f + 2 * n * f * f)


def test_gradients_of_gradients_count():
    w, x = torch.randn(5, 1, requires_grad=True), torch.randn(3, 5, requires_grad=True)

    def step(order):
        (gradient,) = torch.autograd.grad((x @ w).sum(), x, create_graph=True)  # 1 + 1 products of 3 x 5 x 1
        if order == 2:
            gradient.square().sum().backward()  # and the gradient of the second with respect to w

    product = 2 * 3 * 5
    assert count_flops(lambda: step(1)) == 2 * product
    assert count_flops(lambda: step(2)) == 3 * product

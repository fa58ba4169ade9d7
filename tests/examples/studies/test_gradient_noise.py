"""Moments of gradients against what they were drawn with; the gradient of a loss over micro-batches."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from algorithms.config import OptimConfig
from algorithms.launch import start_accelerator
from algorithms.recipes.nft import NFTConfig
from examples.studies.gradient_noise import WAYS, Moments, gradient, moments


def test_moments_are_unbiased():
    """|E g|^2 and both variances of normal gradients, over many sets of four rollouts; the error is the estimate's."""
    rng = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.6, -0.8, 0.0], dtype=torch.float64)

    def gradients():
        rollouts = mean + 0.5 * torch.randn(4, 1, 3, dtype=torch.float64, generator=rng)
        return rollouts + 0.8 * torch.randn(4, 2, 3, dtype=torch.float64, generator=rng)

    estimates = [moments(gradients()) for _ in range(4000)]
    signal, error, rollouts, renoising = torch.tensor(estimates, dtype=torch.float64).T
    assert signal.mean().item() == pytest.approx(1.0, abs=0.03)
    assert rollouts.mean().item() == pytest.approx(3 * 0.25, abs=0.04)
    assert renoising.mean().item() == pytest.approx(3 * 0.64, abs=0.04)
    assert error.square().mean().sqrt().item() == pytest.approx(signal.std().item(), rel=0.25)
    assert Moments(1.0, 0.1, 3.0, 5.0).signal_to_noise == 1 / 8


def test_micro_batches_add_up_to_the_gradient_of_the_mean(fresh_accelerate):
    theta = nn.Linear(3, 1).double()
    rows = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    algorithm = SimpleNamespace(loss=lambda part: {"loss_nft": theta(part).square().mean()})

    def components(micro_batch_size):
        config = replace(NFTConfig(), optim=OptimConfig(micro_batch_size=micro_batch_size))
        return SimpleNamespace(theta=theta, config=config, accelerator=start_accelerator(threads=1))

    whole, parts = (gradient(components(size), algorithm, rows) for size in (10, 4))
    torch.testing.assert_close(parts, whole)
    assert whole.abs().min() > 0 and whole.shape == (4,)


def test_the_quarters_cover_all_times_but_the_last():
    u = torch.linspace(0, 1, 101)[:-1]
    times = [change["times"](u) for change in WAYS.values() if "times" in change]
    assert [t.min().item() for t in times] == [0, 0.25, 0.5, 0.75]
    assert all(t.max() < bound for t, bound in zip(times, (0.25, 0.5, 0.75, 1.0), strict=True))
    assert torch.cat(times).unique().numel() == 400

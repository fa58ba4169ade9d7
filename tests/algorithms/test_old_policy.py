"""Old policy: its decay schedule and its update."""

import torch
from torch import nn

from algorithms.old_policy import ema_update, old_policy_decay


def test_decay_rises_linearly_to_its_maximum():
    assert [old_policy_decay(i) for i in (0, 1, 100, 500, 9000)] == [0.0, 0.001, 0.1, 0.5, 0.5]
    assert [old_policy_decay(i, slope=0.8, most=0.9) for i in (0, 1, 2)] == [0.0, 0.8, 0.9]


def test_update_mixes_old_and_theta_and_decay_zero_copies():
    old, theta = nn.Linear(2, 1), nn.Linear(2, 1)
    expected = 0.25 * old.weight + 0.75 * theta.weight
    ema_update(old, theta, 0.25)
    torch.testing.assert_close(old.weight, expected)
    ema_update(old, theta, 0.0)
    assert torch.equal(old.weight, theta.weight) and old.weight is not theta.weight

"""The critic: zero at first, a function of image, time and condition; its loss by hand."""

import pytest
import torch
from tensordict import TensorDict
from torch.nn.functional import smooth_l1_loss

from algorithms.losses.critic import Critic, CriticLoss
from cellenv.streams import rng_at


@pytest.fixture
def rows():
    """Twelve states whose return is a function of image and condition."""
    x_t, condition = torch.randn(12, 3, 4, 4, generator=rng_at(2)), torch.randn(12, 5, generator=rng_at(3))
    target = condition[:, :1] + x_t.flatten(1).mean(1, keepdim=True)
    return TensorDict({"x_t": x_t, "t": torch.zeros(12), "condition": condition, "value_target": target}, [12])


def test_it_starts_at_zero_and_learns_a_function_of_image_and_condition(rows):
    critic, again = Critic(3, 5, rng_at(1)), Critic(3, 5, rng_at(1))
    assert all(torch.equal(mine, its) for mine, its in zip(critic.parameters(), again.parameters(), strict=True))
    arguments = (rows["x_t"], rows["t"], rows["condition"])
    assert (critic(*arguments) == 0).all()
    loss, optimizer = CriticLoss(critic), torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss(rows)["loss_critic"].backward()
        optimizer.step()
    assert (critic(*arguments) - rows["value_target"]).square().mean() < 0.05 * rows["value_target"].var()
    assert loss(rows)["explained_variance"] > 0.9
    assert not torch.allclose(critic(*arguments), critic(arguments[0], torch.ones(12), arguments[2]))


def test_loss_and_explained_variance_by_hand(rows):
    critic = Critic(3, 5, rng_at(1))
    torch.nn.init.normal_(critic.value_head.weight, std=0.3, generator=rng_at(4))
    out, target = CriticLoss(critic)(rows), rows["value_target"]
    V = critic(rows["x_t"], rows["t"], rows["condition"])
    torch.testing.assert_close(out["loss_critic"], smooth_l1_loss(V, target))
    unexplained = (target - V).var(correction=0) / target.var(correction=0)
    torch.testing.assert_close(out["explained_variance"], 1 - unexplained.detach())
    assert [key for key in out.keys() if out[key].requires_grad] == ["loss_critic"]

"""PPO on the chain: generalised advantages by hand, the critic, the loss, and a reward that rises on a toy."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from chain_toys import brightness, toy_bandit, toy_chain, toy_generator, toy_rollout, toy_train
from torch.nn.functional import smooth_l1_loss

from algorithms import controls
from algorithms.losses.grpo import GRPOLoss
from algorithms.losses.ppo import Critic, PPOLoss, ValuedSteps, standardised
from algorithms.policies import ChainPolicy
from algorithms.renoise import total_reward
from algorithms.trainer import Algorithm
from cellenv.streams import rng_at

NAN = float("nan")


def critic_of(seed=1, value=0.3):
    """A critic whose last layer is not zero."""
    critic = Critic(3, 5, rng_at(seed))
    torch.nn.init.normal_(critic.value.weight, std=value, generator=rng_at(seed, 1))
    return critic


@pytest.fixture
def old():
    return toy_generator(steps=8)


@pytest.fixture
def prepare(old):
    return ValuedSteps(chain=toy_chain(old, window=(0, 3), eta=0.3), critic=critic_of(), lmbda=0.7)


@pytest.fixture
def rollout(old, prepare):
    return toy_rollout(old, prepare.chain, groups=3, group_size=4)


def values(prepare, rollout):
    """V of each noisy step, (B, S)."""
    times = prepare.chain.steps()[0].float()
    with torch.no_grad():
        each = [
            prepare.critic(rollout["path"][:, k], t.expand(len(rollout)), rollout["condition"])
            for k, t in enumerate(times)
        ]
    return torch.cat(each, dim=1)


def test_advantages_and_targets_equal_the_recursion(prepare, rollout):
    V, R = values(prepare, rollout), rollout["next", "reward"].squeeze(1)
    assert V.std() > 0.05
    A2 = R - V[:, 2]
    A1 = V[:, 2] - V[:, 1] + 0.7 * A2
    A0 = V[:, 1] - V[:, 0] + 0.7 * A1
    A = torch.stack([A0, A1, A2])  # (S, B), the order of the rows
    rows = prepare(rollout, 0)
    torch.testing.assert_close(rows["value_target"].reshape(3, 12), A + V.T)
    torch.testing.assert_close(rows["advantage"].reshape(3, 12), (A - A.mean()) / (A.std(correction=0) + 1e-4))
    assert not rows["advantage"].requires_grad


def test_with_lambda_one_the_target_is_the_reward(prepare, rollout):
    rows = replace(prepare, lmbda=1.0)(rollout, 0)
    torch.testing.assert_close(rows["value_target"].reshape(3, 12), rollout["next", "reward"].T.expand(3, 12))


def test_a_reward_that_is_no_number_moves_no_neighbour(prepare, rollout):
    R = total_reward(rollout, 0).clone()
    R[5] = NAN
    rows = replace(prepare, signal=lambda td, i: R)(rollout, 0).reshape(3, 12)
    others = torch.arange(12) != 5
    alone = prepare(rollout[others], 0).reshape(3, 11)
    assert (rows["advantage"][:, 5] == 0).all()
    assert torch.allclose(rows["value_target"][:, 5, 0], values(prepare, rollout)[5])
    for key in ("advantage", "value_target"):
        torch.testing.assert_close(rows[key][:, others], alone[key])
    none = replace(prepare, signal=lambda td, i: torch.full((12,), NAN))(rollout, 0)
    assert (none["advantage"] == 0).all() and none["value_target"].isfinite().all()


def test_ranks_share_the_scale_of_advantages():
    A = torch.tensor([1.0, 2.0, NAN, 9.0])[:, None]
    parts = [standardised(part, lambda _: A) for part in A.split(2)]
    assert torch.equal(torch.cat(parts), standardised(A, lambda x: x))
    torch.testing.assert_close(torch.cat(parts)[:, 0], (A[:, 0].nan_to_num(4.0) - 4) / ((38 / 3) ** 0.5 + 1e-4))


def test_critic_starts_at_zero_and_learns_what_a_context_is_worth(prepare, rollout):
    critic = Critic(3, 5, rng_at(1))
    again = Critic(3, 5, rng_at(1))
    assert all(torch.equal(mine, its) for mine, its in zip(critic.parameters(), again.parameters(), strict=True))
    arguments = (rollout["path"][:, 0], torch.zeros(12), rollout["condition"])
    assert (critic(*arguments) == 0).all()
    target = rollout["condition"][:, :1] + rollout["path"][:, 0].flatten(1).mean(1, keepdim=True)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (critic(*arguments) - target).square().mean().backward()
        optimizer.step()
    assert (critic(*arguments) - target).square().mean() < 0.05 * target.var()
    later = (arguments[0], torch.ones(12), arguments[2])
    assert not torch.allclose(critic(*arguments), critic(*later))


def test_loss_is_the_clipped_ratio_and_the_error_of_the_critic(old, prepare, rollout):
    rows, theta = prepare(rollout, 0), copy.deepcopy(old)
    with torch.no_grad():
        theta.network.outer.weight += 0.02 * torch.randn(48, 32, generator=rng_at(3))
    out = PPOLoss(theta, prepare.critic, clip=0.003, critic_weight=0.7)(rows)
    policy = GRPOLoss(theta, old, clip=0.003)(rows)  # has tests of its own
    assert 0 < out["clip_ratio/region_mean"] < 1
    for ours, its in (("loss_ppo", "loss_grpo"), ("clip_ratio/region_mean",) * 2, ("max_ratio",) * 2):
        assert out[ours] == policy[its]
    V = values(prepare, rollout).T.reshape(-1, 1)
    torch.testing.assert_close(out["loss_critic"], 0.7 * smooth_l1_loss(V, rows["value_target"]))
    left = (rows["value_target"] - V).var(correction=0) / rows["value_target"].var(correction=0)
    torch.testing.assert_close(out["explained_variance"], 1 - left, rtol=1e-4, atol=0)
    assert [key for key in out.keys() if out[key].requires_grad] == ["loss_ppo", "loss_critic"]


def test_each_loss_trains_its_own_network(old, prepare, rollout):
    theta, critic = copy.deepcopy(old), prepare.critic
    loss = PPOLoss(theta, critic)
    out = loss(prepare(rollout, 0))
    assert out["max_ratio"] == 1
    trained = {id(parameter) for parameter in loss.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for model in (theta, critic) for parameter in model.parameters()}
    out["loss_ppo"].backward()
    assert theta.network.outer.weight.grad.norm() > 0 and critic.value.weight.grad is None
    theta.zero_grad()
    loss(prepare(rollout, 0))["loss_critic"].backward()
    assert critic.value.weight.grad.norm() > 0 and theta.network.outer.weight.grad is None


def ppo(theta, ref, chain, *, signal=total_reward):
    critic = Critic(3, 5, rng_at(1))
    return Algorithm(
        loss=PPOLoss(theta, critic, clip=0.01),
        collect=toy_bandit(ChainPolicy(theta, chain)),
        prepare=ValuedSteps(chain=chain, critic=critic, signal=signal),
        theta=theta,
        old=theta,
    )


def test_reward_rises_and_falls_when_flipped(tmp_path):
    """By the plain sampler, although the noisy one was trained."""
    before, up, _ = toy_train(tmp_path / "up", ppo)
    _, down, _ = toy_train(tmp_path / "down", partial(ppo, signal=controls.flipped))
    assert before == brightness(toy_generator())
    assert up > before + 0.15 and down < before - 0.15


def test_wrong_arguments_are_named(old):
    with pytest.raises(ValueError, match="need 0 < clip < 1 and critic_weight > 0, got 2 and 0"):
        PPOLoss(old, critic_of(), clip=2, critic_weight=0)

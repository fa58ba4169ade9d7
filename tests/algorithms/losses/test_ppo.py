"""PPO on noisy steps: generalised advantages by hand, the critic, the loss, learning on a toy."""

import copy
from functools import partial

import pytest
import torch
from torch.nn.functional import smooth_l1_loss

from algorithms.advantages import identity, total_reward
from algorithms.controls import flipped_reward
from algorithms.losses.grpo import GRPOLoss
from algorithms.losses.ppo import Critic, PPOLoss, build_ppo_batch, standardize
from algorithms.sde import SDEPolicy
from algorithms.trainer import Algorithm
from cellenv.streams import rng_at
from tests.algorithms.sde_toys import (
    mean_brightness,
    toy_collector,
    toy_generator,
    toy_rollout,
    toy_sampler,
    toy_train,
)

NAN = float("nan")


def critic_of(seed=1, value=0.3):
    """A critic whose last layer is not zero."""
    critic = Critic(3, 5, rng_at(seed))
    torch.nn.init.normal_(critic.value_head.weight, std=value, generator=rng_at(seed, 1))
    return critic


@pytest.fixture
def old():
    return toy_generator(steps=8)


@pytest.fixture
def sampler(old):
    return toy_sampler(old, sde_window=(0, 3), eta=0.3)


@pytest.fixture
def critic():
    return critic_of()


@pytest.fixture
def build(sampler, critic):
    return partial(build_ppo_batch, sampler=sampler, critic=critic, lmbda=0.7)


@pytest.fixture
def rollout(old, sampler):
    return toy_rollout(old, sampler, groups=3, group_size=4)


def values(critic, sampler, rollout):
    """V of each noisy step, (B, S)."""
    path, condition = rollout["path"], rollout["condition"]
    times = sampler.noisy_steps()[0].float()
    with torch.no_grad():
        columns = [critic(path[:, k], t.expand(len(rollout)), condition) for k, t in enumerate(times)]
    return torch.cat(columns, dim=1)


def test_advantages_and_targets_equal_the_recursion(build, critic, sampler, rollout):
    V, R = values(critic, sampler, rollout), rollout["next", "reward"].squeeze(1)
    assert V.std() > 0.05
    A2 = R - V[:, 2]
    A1 = V[:, 2] - V[:, 1] + 0.7 * A2
    A0 = V[:, 1] - V[:, 0] + 0.7 * A1
    A = torch.stack([A0, A1, A2])  # (S, B), as the rows
    rows = build(rollout, 0)
    torch.testing.assert_close(rows["value_target"].reshape(3, 12), A + V.T)
    torch.testing.assert_close(rows["advantage"].reshape(3, 12), (A - A.mean()) / (A.std(correction=0) + 1e-4))
    assert not rows["advantage"].requires_grad


def test_with_lambda_one_the_target_is_the_reward(build, rollout):
    rows = build(rollout, 0, lmbda=1.0)
    torch.testing.assert_close(rows["value_target"].reshape(3, 12), rollout["next", "reward"].T.expand(3, 12))


def test_a_reward_that_is_not_finite_does_not_affect_others(build, critic, sampler, rollout):
    R = total_reward(rollout, 0).clone()
    R[5] = NAN
    rows = build(rollout, 0, reward_fn=lambda td, i: R).reshape(3, 12)
    others = torch.arange(12) != 5
    without = build(rollout[others], 0).reshape(3, 11)
    assert (rows["advantage"][:, 5] == 0).all()
    assert torch.allclose(rows["value_target"][:, 5, 0], values(critic, sampler, rollout)[5])
    for key in ("advantage", "value_target"):
        torch.testing.assert_close(rows[key][:, others], without[key])
    none = build(rollout, 0, reward_fn=lambda td, i: torch.full((12,), NAN))
    assert (none["advantage"] == 0).all() and none["value_target"].isfinite().all()


def test_ranks_share_the_scale_of_advantages():
    A = torch.tensor([1.0, 2.0, NAN, 9.0])[:, None]
    parts = [standardize(part, lambda _: A) for part in A.split(2)]
    assert torch.equal(torch.cat(parts), standardize(A, identity))
    torch.testing.assert_close(torch.cat(parts)[:, 0], (A[:, 0].nan_to_num(4.0) - 4) / ((38 / 3) ** 0.5 + 1e-4))


def test_critic_starts_at_zero_and_learns_a_function_of_image_and_condition(rollout):
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


def test_loss_is_the_clipped_ratio_and_the_error_of_the_critic(old, build, critic, sampler, rollout):
    rows, theta = build(rollout, 0), copy.deepcopy(old)
    with torch.no_grad():
        theta.network.outer.weight += 0.02 * torch.randn(48, 32, generator=rng_at(3))
    out = PPOLoss(theta, critic, clip_epsilon=0.003, critic_weight=0.7)(rows)
    policy = GRPOLoss(theta, old, clip_epsilon=0.003)(rows)  # see test_grpo.py
    assert 0 < out["clip_ratio/region_mean"] < 1
    for ours, its in (("loss_ppo", "loss_grpo"), ("clip_ratio/region_mean",) * 2, ("max_ratio",) * 2):
        assert out[ours] == policy[its]
    V = values(critic, sampler, rollout).T.reshape(-1, 1)
    torch.testing.assert_close(out["loss_critic"], 0.7 * smooth_l1_loss(V, rows["value_target"]))
    left = (rows["value_target"] - V).var(correction=0) / rows["value_target"].var(correction=0)
    torch.testing.assert_close(out["explained_variance"], 1 - left, rtol=1e-4, atol=0)
    assert [key for key in out.keys() if out[key].requires_grad] == ["loss_ppo", "loss_critic"]


def test_each_loss_trains_its_own_network(old, build, critic, rollout):
    theta = copy.deepcopy(old)
    loss = PPOLoss(theta, critic)
    out = loss(build(rollout, 0))
    assert out["max_ratio"] == 1
    trained = {id(parameter) for parameter in loss.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for model in (theta, critic) for parameter in model.parameters()}
    out["loss_ppo"].backward()
    assert theta.network.outer.weight.grad.norm() > 0 and critic.value_head.weight.grad is None
    theta.zero_grad()
    loss(build(rollout, 0))["loss_critic"].backward()
    assert critic.value_head.weight.grad.norm() > 0 and theta.network.outer.weight.grad is None


def ppo(theta, ref, sampler, *, reward_fn=total_reward):
    critic = Critic(3, 5, rng_at(1))
    return Algorithm(
        loss=PPOLoss(theta, critic, clip_epsilon=0.01),
        collect=toy_collector(SDEPolicy(theta, sampler)),
        build_batch=partial(build_ppo_batch, sampler=sampler, critic=critic, reward_fn=reward_fn),
        theta=theta,
        old=theta,
    )


def test_reward_rises_and_falls_when_flipped(tmp_path):
    """Measured without the noise of training."""
    before, up, _ = toy_train(tmp_path / "up", ppo)
    _, down, _ = toy_train(tmp_path / "down", partial(ppo, reward_fn=flipped_reward))
    assert before == mean_brightness(toy_generator())
    assert up > before + 0.15 and down < before - 0.15


def test_wrong_arguments_raise(old):
    with pytest.raises(ValueError, match="need 0 < clip_epsilon < 1 and critic_weight > 0, got 2 and 0"):
        PPOLoss(old, critic_of(), clip_epsilon=2, critic_weight=0)

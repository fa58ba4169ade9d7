"""PPO on noisy steps: generalised advantages by hand, the losses, learning on a toy, resuming."""

import copy
from functools import partial

import pytest
import torch

from algorithms.advantages import identity, total_reward
from algorithms.controls import flipped_reward
from algorithms.launch import start_accelerator
from algorithms.losses.critic import Critic, CriticLoss
from algorithms.losses.grpo import GRPOLoss
from algorithms.losses.ppo import PPOLoss, build_ppo_batch, standardize
from algorithms.returns import NormalisedReturns
from algorithms.trainer import train
from cellenv.streams import rng_at
from tests.algorithms.config_toys import train_config
from tests.algorithms.sde_toys import (
    mean_brightness,
    toy_generator,
    toy_ppo,
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


def test_each_loss_trains_its_own_network(old, build, critic, rollout):
    theta, ref = copy.deepcopy(old), copy.deepcopy(old)
    loss, critic_loss = PPOLoss(theta, ref), CriticLoss(critic)
    rows = build(rollout, 0)
    out, critic_out = loss(rows), critic_loss(rows)
    assert out["max_ratio"] == 1 and out["clip_ratio/region_mean"] == 0 and out["kl"] == 0
    assert out["loss_ppo"] == GRPOLoss(theta, ref)(rows)["loss_grpo"]  # by hand in test_clipped_ratio.py
    (out["loss_ppo"] + out["loss_kl"]).backward()
    assert theta.network.outer.weight.grad.norm() > 0 and critic.value_head.weight.grad is None
    theta.zero_grad()
    critic_out["loss_critic"].backward()
    assert critic.value_head.weight.grad.norm() > 0 and theta.network.outer.weight.grad is None


def test_reward_rises_and_falls_when_flipped(tmp_path):
    """Measured without the noise of training."""
    epochs = {"epochs": 2, "learning_rate": 5e-3}
    before, up, lines = toy_train(tmp_path / "up", toy_ppo, **epochs)
    _, down, _ = toy_train(tmp_path / "down", partial(toy_ppo, control=flipped_reward), **epochs)
    assert before == mean_brightness(toy_generator())
    assert up > before + 0.15 and down < before - 0.15
    assert all(0 < line["clip_ratio/region_mean"] < 1 and line["max_ratio"] > 1 for line in lines)
    assert lines[-1]["explained_variance"] > 0.1


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    """Running statistics and the critic, with its optimizer, are part of a checkpoint."""
    states = {}
    for name, stops in (("straight", [4]), ("stopped", [2, 4])):
        for iterations in stops:
            algorithm = toy_ppo()
            config = train_config(
                tmp_path / name, iterations=iterations, resume=iterations != stops[0], epochs=2, optimizer_steps=2
            )
            train(start_accelerator(threads=1), config, algorithm)
        states[name] = algorithm.loss.state_dict() | algorithm.critic.loss.state_dict()
    assert {"returns.moments.mean", "critic.value_head.weight"} < states["straight"].keys()
    for key, value in states["straight"].items():
        assert torch.equal(value, states["stopped"][key]), key


def test_without_a_critic_lambda_one_is_the_advantage_of_ddpo(sampler, rollout):
    """A = (R - mean) / deviation of the compound, equal for all steps of a path."""
    returns = NormalisedReturns({}, compounds=3, memory=1e9)
    rows = build_ppo_batch(rollout, 0, sampler=sampler, critic=Critic(3, 5, rng_at(1)), lmbda=1.0, reward_fn=returns)
    R, compound = total_reward(rollout, 0), rollout["perturbation"]
    A = torch.zeros(12)
    for c in compound.unique():
        of_compound = R[compound == c]
        A[compound == c] = (of_compound - of_compound.mean()) / (of_compound.std(correction=0) + 1e-4)
    torch.testing.assert_close(rows["advantage"].reshape(3, 12), A.expand(3, 12), rtol=1e-3, atol=1e-4)

"""Flow-GRPO: group advantages, learning on a toy. The loss: test_clipped_ratio.py."""

from functools import partial

import pytest
import torch

from algorithms.advantages import total_reward
from algorithms.controls import flipped_reward, zero_reward
from algorithms.losses.grpo import GRPOLoss, build_grpo_batch
from algorithms.sde import SDEPolicy
from algorithms.trainer import Algorithm
from tests.algorithms.sde_toys import (
    toy_collector,
    toy_generator,
    toy_rollout,
    toy_sampler,
    toy_train,
)


@pytest.fixture
def old():
    return toy_generator()


def test_advantages_are_normalised_within_a_group(old):
    sampler = toy_sampler(old)
    rollout = toy_rollout(old, sampler, groups=3, group_size=4)
    assert rollout["group"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    R = torch.tensor([1.0, 2, 3, 6, 10, 10, 10, 10, float("nan"), 1, 2, 3])

    def advantages(reward):
        batch = build_grpo_batch(rollout, 0, sampler=sampler, reward_fn=lambda td, i: reward)
        return batch["advantage"].reshape(2, 12)

    A = advantages(R)
    assert torch.equal(A[0], A[1])  # both steps of a path
    expected = [(R[:4] - 3) / (3.5**0.5 + 1e-4), torch.zeros(5), (R[9:] - 2) / ((2 / 3) ** 0.5 + 1e-4)]
    torch.testing.assert_close(A[0], torch.cat(expected))
    torch.testing.assert_close(advantages(3 * R + 7), A, rtol=1e-3, atol=0)


def grpo(theta, ref, sampler, *, reward_fn=total_reward, kl_weight=0.01):
    return Algorithm(
        loss=GRPOLoss(theta, ref, clip_epsilon=0.01, kl_weight=kl_weight),
        collect=toy_collector(SDEPolicy(theta, sampler)),
        build_batch=partial(build_grpo_batch, sampler=sampler, reward_fn=reward_fn),
        theta=theta,
        old=theta,
        frozen=[ref],
    )


def test_reward_rises_and_falls_when_flipped(tmp_path):
    """Measured without the noise of training."""
    before, up, lines = toy_train(tmp_path / "up", grpo)
    _, down, _ = toy_train(tmp_path / "down", partial(grpo, reward_fn=flipped_reward))
    assert up > before + 0.15 and down < before - 0.15
    assert lines[0]["max_ratio"] > 1 and 0 < lines[-1]["clip_ratio/region_mean"] < 0.3


def test_the_clip_acts_from_the_second_step_on(tmp_path):
    """Before an iteration's first step the ratio is 1; more epochs at a large rate take it out of the clip range."""
    one = {"iterations": 2, "epochs": 1, "optimizer_steps": 1}
    _, _, lines = toy_train(tmp_path / "one", grpo, **one)
    assert [line["max_ratio"] for line in lines] == pytest.approx([1, 1], abs=1e-5)
    assert [line["clip_ratio/region_mean"] for line in lines] == [0, 0]
    _, _, lines = toy_train(tmp_path / "more", grpo, **(one | {"epochs": 3}))
    assert all(line["max_ratio"] > 1.001 and 0 < line["clip_ratio/region_mean"] < 1 for line in lines)


def test_kl_penalty_keeps_theta_near_the_base(tmp_path):
    _, _, free = toy_train(tmp_path / "free", grpo)
    before, after, held = toy_train(tmp_path / "held", partial(grpo, kl_weight=5.0))
    assert held[-1]["kl"] < 0.05 * free[-1]["kl"] and abs(after - before) < 0.05


def test_zero_reward_leaves_the_weights_unchanged(tmp_path):
    before, after, lines = toy_train(tmp_path, partial(grpo, reward_fn=zero_reward), iterations=2)
    assert after == before and lines[-1]["grad_norm"] == 0

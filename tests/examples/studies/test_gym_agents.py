"""Networks and rules of the benchmark's agents."""

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")

from cellenv.gym import Select, Steer, TaskVectorEnv
from cellenv.streams import rng_at
from examples.studies.gym_agents import (
    OneStepVecEnv,
    ScoreNetwork,
    SteerNetwork,
    best_draft,
    feature_statistics,
)
from tests.cellenv.toy_bandit import toy_world

ORDER = [3, 0, 4, 1, 2]


def observe(task, n=6):
    return task.observe(task.prepare(task.world.data.draw_contexts(n, rng_at(1))))


def tensors_of(observation):
    return {key: torch.from_numpy(value) for key, value in observation.items()}


def test_rewards_are_standardised_and_episodes_end_after_a_step():
    task = Select(toy_world(), observation="features")
    plain, scaled = (OneStepVecEnv(TaskVectorEnv(3, task), mean, std) for mean, std in ((0.0, 1.0), (2.0, 4.0)))
    rewards = []
    for env in (plain, scaled):
        env.seed(5)
        env.reset()
        env.step_async(np.zeros(3, np.int64))
        rewards.append(env.step_wait()[1])
    np.testing.assert_allclose(rewards[1], (rewards[0] - 2) / 4)


def test_features_are_standardised_and_constant_ones_stay():
    values = np.random.default_rng(0).normal(3, 2, (40, 5, 2)).astype(np.float32)
    values[..., 1] = 7
    mean, std = feature_statistics({"x": values})["x"]
    assert std[1] == 1 and mean[1] == 7
    assert mean[0].item() == pytest.approx(values[..., 0].mean(), rel=1e-4)
    assert std[0].item() == pytest.approx(values[..., 0].std(ddof=1), rel=1e-4)


def test_candidate_scores_follow_the_order_of_the_candidates():
    task = Select(toy_world(), candidates=5, observation="features")
    observation = observe(task)
    network, tensors = ScoreNetwork(task.observation_space, feature_statistics(observation)), tensors_of(observation)
    permuted = tensors | {"candidates": tensors["candidates"][:, ORDER]}
    torch.testing.assert_close(network(permuted), network(tensors)[:, ORDER])
    assert network(tensors).std(1).min() > 0


def test_pulls_follow_the_order_of_the_drafts_and_shared_actions_do_not_depend_on_it():
    task = Steer(toy_world(), drafts=5, observation="features")
    observation = observe(task)
    network, tensors = SteerNetwork(task.observation_space, feature_statistics(observation)), tensors_of(observation)
    permuted = tensors | {key: tensors[key][:, ORDER] for key in ("drafts", "rewards")}
    actions, of_permuted = network(tensors), network(permuted)
    torch.testing.assert_close(of_permuted[:, :2], actions[:, :2])
    torch.testing.assert_close(of_permuted[:, 2:], actions[:, 2:][:, ORDER])
    assert actions.shape == (6, 7) and actions[:, 2:].std(1).min() > 0


def test_the_rule_reproduces_the_best_draft():
    task = Steer(toy_world(), observation="features")
    scene = task.prepare(task.world.data.draw_contexts(9, rng_at(5)))
    images = task.score(scene, best_draft(task.observe(scene)))["image"]
    total = sum(scene["rated", "rewards", name] for name in task.world.rewards)  # (9, 4)
    torch.testing.assert_close(images, scene["drafts"][torch.arange(9), total.argmax(1)], rtol=0, atol=2e-3)
    assert len(total.argmax(1).unique()) > 1

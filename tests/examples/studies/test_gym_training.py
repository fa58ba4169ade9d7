"""Baselines on a toy world: agents learn, and the best constant is the best."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from cellenv.gym import Scale, Select, Steer
from cellenv.gym.score import fixed_contexts, play
from cellenv.streams import rng_at
from examples.studies.gym_cached_task import CachedSelect, CachedTask
from examples.studies.gym_config import PRESETS
from examples.studies.gym_training import best_constant, train_agent
from tests.cellenv.toy_bandit import toy_world

CONFIG = replace(PRESETS["smoke"], curve_contexts=20)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["PPO", "DQN"])
def test_agents_learn_to_choose(agent):
    """Brightness is a mean feature: an agent comes near the oracle, a constant does not."""
    task = Select(toy_world(), candidates=4, observation="features")
    train = CachedSelect(task, task.world.data.draw_contexts(200, rng_at(2)))
    test = CachedSelect(task, fixed_contexts(task.world.data, 40))
    scale = Scale.fit(test, test.scenes)
    config = replace(CONFIG, steps=1500, constant_contexts=60)
    run = train_agent(agent, train, test, scale, 0, config)
    assert run.curve[-1][1] == pytest.approx(float(scale.score(run.rewards))) and run.curve[-1][1] > 0.5
    assert [steps >= 750 for steps, _ in run.curve] == [False, True, True]
    assert abs(float(scale.score(best_constant(train, test, config).rewards))) < 0.35


def test_best_constant_is_the_best_on_training_contexts():
    task = Steer(toy_world(), observation="features")
    train, test = (CachedTask(task, task.world.data.draw_contexts(8, rng_at(i))) for i in (3, 4))
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 6)).astype(np.float32)
    actions[0] = 0

    def rewards(action, cached):
        return play(task, lambda observation: np.stack([action] * 8), cached.scenes.exclude("row"))

    best = actions[int(np.argmax([rewards(action, train).mean() for action in actions]))]
    found = best_constant(train, test, replace(CONFIG, constants=6, constant_contexts=8))
    np.testing.assert_allclose(found.rewards, rewards(best, test), atol=1e-6)

"""The benchmark on the embedded world, as it is after an import and one line."""

import gymnasium
import numpy as np
import pytest

import cellenv  # noqa: F401  registers the tasks
from cellenv.gym import Scale, Select, World, evaluate
from cellenv.gym.score import fixed_contexts

REWARDS = {"moa", "containment", "roundness", "nucleus_size", "cell_size", "nucleus_count", "cell_count"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning")
def test_out_of_the_box():
    env = gymnasium.make("cellenv/Select-v0", candidates=2, render_mode="rgb_array")
    seen, _ = env.reset(seed=0)
    assert seen["candidates"].shape == (2, 3, 96, 96) and seen["candidates"].std() > 10
    _, reward, terminated, _, info = env.step(1)
    assert terminated and np.isfinite(reward) and info["rewards"].keys() == REWARDS
    assert (env.render() == (255, 255, 255)).all(-1).any()  # the outline of a nucleus
    world: World = env.unwrapped.task.world
    batch = gymnasium.make_vec("cellenv/Steer-v0", num_envs=3, world=world, observation="features")
    seen, _ = batch.reset(seed=0)
    assert seen["draft"].shape == (3, 96)
    assert np.isfinite(batch.step(np.zeros((3, 4), np.float32))[1]).all()
    task = Select(world, candidates=2, observation="features")
    scale = Scale.fit(task, fixed_contexts(world.data, 3))
    scores = [evaluate(task, lambda seen, k=k: [k] * 3, scale=scale).score for k in (0, 1)]
    assert sum(scores) == pytest.approx(0, abs=1e-3) and max(scores) <= 1 + 1e-3

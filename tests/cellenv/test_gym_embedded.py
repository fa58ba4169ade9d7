"""The benchmark on the embedded world, as it is after an import and one line."""

import gymnasium
import numpy as np
import pytest

import cellenv  # noqa: F401  registers the tasks
from cellenv import SyntheticCells
from cellenv.gym import Paint, Scale, Select, Steer, World, evaluate, fixed_contexts

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
    assert seen["drafts"].shape == (3, 4, 96) and seen["rewards"].shape == (3, 4, 7)
    assert np.isfinite(batch.step(np.zeros((3, 6), np.float32))[1]).all()
    task = Select(world, candidates=2, observation="features")
    scale = Scale.fit(task, fixed_contexts(world.data, 3))
    scores = [evaluate(task, lambda seen, k=k: [k] * 3, scale=scale).score for k in (0, 1)]
    assert sum(scores) == pytest.approx(0, abs=1e-3) and max(scores) <= 1 + 1e-3


@pytest.mark.slow
def test_the_shipped_scale_is_what_the_shipped_generator_earns():
    """Of the first four contexts; another processor may move a mask by a pixel."""
    world = World(data=SyntheticCells("test"))
    contexts = fixed_contexts(world.data)
    select, paint, steer = (Scale.load(task(world), contexts) for task in (Select, Paint, Steer))
    few, task = contexts[:4], Select(world)
    untouched, oracle = task.bounds(task.prepare(few))
    assert np.median(np.abs(untouched.numpy() - select.untouched[:4])) < 0.05
    assert np.median(np.abs(oracle.numpy() - select.oracle[:4])) < 0.05
    assert (paint.untouched, paint.oracle) == (select.untouched, select.oracle)
    drafts = Steer(world).prepare(few)["rated", "reward"].mean(1)
    assert np.median(np.abs(drafts.numpy() - steer.untouched[:4])) < 0.05
    assert np.mean(steer.untouched) == pytest.approx(np.mean(select.untouched), abs=0.5)  # four draws, and eight
    assert np.mean(steer.oracle) > np.mean(select.oracle)  # 64 tries against eight

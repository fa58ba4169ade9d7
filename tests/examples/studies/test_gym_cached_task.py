"""A cached task shows and scores what the task itself does."""

import numpy as np
import pytest
import torch

from cellenv.gym import Select, Steer
from cellenv.streams import rng_at
from examples.studies.gym_cached_task import CachedSelect, CachedTask
from tests.cellenv.toy_bandit import toy_world


@pytest.mark.parametrize(("task_type", "cached_type"), [(Select, CachedSelect), (Steer, CachedTask)])
def test_a_cached_task_observes_scores_and_bounds_as_its_task(task_type, cached_type):
    world, rng = toy_world(), np.random.default_rng(0)
    contexts = world.data.draw_contexts(7, rng_at(0))
    task = task_type(world, observation="features")
    cached = cached_type(task, contexts)
    order = torch.tensor([4, 0, 6, 6, 1, 2, 3])
    scenes, fresh = cached.scenes[order], task.prepare(contexts[order])
    for key, value in task.observe(fresh).items():
        np.testing.assert_allclose(cached.observe(scenes)[key], value, atol=1e-6)
    actions = {
        Select: rng.integers(8, size=7),
        Steer: rng.uniform(-1, 1, (7, 6)).astype(np.float32),
    }[task_type]
    torch.testing.assert_close(cached.score(scenes, actions)["reward"], task.score(fresh, actions)["reward"])
    for own, expected in zip(cached.bounds(scenes), task.bounds(fresh), strict=True):
        torch.testing.assert_close(own, expected)


def test_resets_draw_every_context():
    world = toy_world()
    cached = CachedTask(Steer(world, observation="features"), world.data.draw_contexts(7, rng_at(0)))
    drawn = cached.draw([np.random.default_rng(i) for i in range(40)])
    assert set(drawn["row"].tolist()) == set(range(7))

import numpy as np
import pytest
import torch

from cellenv.env import repeat_groups
from cellenv.gym import Select
from cellenv.streams import rng_at
from tests.cellenv.toy_bandit import toy_world
from tests.cellenv.toy_cells import ToyCells


@pytest.fixture(scope="module")
def world():
    return toy_world()


@pytest.fixture(scope="module")
def contexts():
    return ToyCells().draw_contexts(5, rng_at(0))


def test_the_chosen_candidate_is_scored(world, contexts):
    task = Select(world, candidates=5)  # as many as contexts
    scene = task.prepare(contexts)
    grouped = repeat_groups(contexts, 5)
    drawn = world.generator.sample(grouped["x0"], grouped["condition"], grouped["seed"])[0].unflatten(0, (5, 5))
    torch.testing.assert_close(scene["candidates"], drawn)
    outcome = task.score(scene, np.array([4, 0, 3, 3, 1]))
    for i, k in enumerate([4, 0, 3, 3, 1]):
        torch.testing.assert_close(outcome["image"][i], drawn[i, k])
        alone = world.rate(contexts[i : i + 1], drawn[i, k : k + 1])
        torch.testing.assert_close(outcome["reward"][i], alone["reward"][0])


def test_bounds_are_mean_and_maximum_of_each_context(world, contexts):
    task = Select(world, candidates=3)
    scene = task.prepare(contexts)
    rewards = torch.stack([task.score(scene, np.full(5, k))["reward"] for k in range(3)], 1)  # (5, 3)
    untouched, oracle = task.bounds(scene)
    torch.testing.assert_close(untouched, rewards.mean(1))
    torch.testing.assert_close(oracle, rewards.max(1).values)


def test_candidates_are_observed_as_pixels(world, contexts):
    task = Select(world, candidates=4)
    scene = task.prepare(contexts)
    seen = task.observe(scene)
    assert seen["candidates"].shape == (5, 4, 3, 8, 8)
    levels = (scene["candidates"].numpy() + 1) * 127.5
    np.testing.assert_allclose(seen["candidates"], levels, atol=0.501)


def test_one_candidate_is_no_choice(world):
    with pytest.raises(ValueError, match="two candidates or more to choose from, got 1"):
        Select(world, candidates=1)

import pytest
import torch

from cellenv.gym import Paint, Select
from cellenv.streams import rng_at
from tests.cellenv.toy_bandit import toy_world
from tests.cellenv.toy_cells import ToyCells


@pytest.fixture(scope="module")
def world():
    return toy_world()


@pytest.fixture(scope="module")
def contexts():
    return ToyCells().draw_contexts(5, rng_at(0))


def test_the_action_is_scored_as_the_image(world, contexts):
    images = torch.rand(5, 3, 8, 8, generator=rng_at(4)) * 2 - 1
    outcome = Paint(world).score(contexts, images.numpy())
    assert torch.equal(outcome["image"], images)
    torch.testing.assert_close(outcome["rewards", "bright"], images.mean((1, 2, 3)))
    contrast = images.flatten(1).std(1) * (contexts["moa"] + 1)
    torch.testing.assert_close(outcome["reward"], images.mean((1, 2, 3)) + 0.5 * contrast)


def test_bounds_are_those_of_select_with_eight_candidates(world, contexts):
    select = Select(world, candidates=8)
    expected = select.bounds(select.prepare(contexts))
    for paint, of_select in zip(Paint(world).bounds(contexts), expected, strict=True):
        torch.testing.assert_close(paint, of_select)

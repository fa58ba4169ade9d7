"""Steer against closed forms: what each part of an action does to the image."""

import numpy as np
import pytest
import torch

from cellenv.env import repeat_groups
from cellenv.gym import Select, Steer
from cellenv.gym.steer import steer
from cellenv.streams import normal_like, rng_at, seed_at
from tests.cellenv.toy_bandit import toy_generator, toy_world
from tests.cellenv.toy_cells import ToyCells


@pytest.fixture(scope="module")
def world():
    return toy_world()


@pytest.fixture(scope="module")
def contexts():
    return ToyCells().draw_contexts(5, rng_at(0))


def test_drafts_and_their_rewards_are_observed(world, contexts):
    task = Steer(world, drafts=3)
    scene = task.prepare(contexts)
    torch.testing.assert_close(scene["drafts"], Select(world, candidates=3).prepare(contexts)["candidates"])
    shown = task.observe(scene)["rewards"]
    assert world.rewards == ("bright", "contrast") and shown.shape == (5, 3, 2)
    brightness = scene["drafts"].mean((2, 3, 4))
    contrast = scene["drafts"].flatten(2).std(2) * (contexts["moa"] + 1)[:, None]
    np.testing.assert_allclose(shown, torch.stack([brightness, contrast], 2), atol=1e-6)
    torch.testing.assert_close(task.bounds(scene)[0], (brightness + 0.5 * contrast).mean(1))


def test_a_pull_to_one_draft_gives_that_draft(world, contexts):
    task = Steer(world)
    scene = task.prepare(contexts)
    for k in range(4):
        actions = np.full((5, 6), -1, np.float32)
        actions[:, :2], actions[:, 2 + k] = 0, 1
        torch.testing.assert_close(task.score(scene, actions)["image"], scene["drafts"][:, k], rtol=0, atol=2e-3)


def test_each_part_of_an_action_does_what_it_says(contexts):
    """From black cells and little noise nothing is clamped: x1 = level (1 + b / 2) n' + gain mean(c) (1 + a / 2)."""
    generator = toy_generator()
    generator.noise_level = 0.01
    dark, gain = contexts.clone().set("x0", torch.zeros(5, 3, 8, 8)), generator.network.gain.item()
    seeds = torch.tensor([[seed_at(seed, k) for k in range(3)] for seed in contexts["seed"].tolist()])
    noises = torch.stack([normal_like(dark["x0"], seed) for seed in seeds.unbind(1)])  # (K, 5, 3, 8, 8)
    actions = torch.rand(5, 5, generator=rng_at(1)) * 2 - 1
    weights = (4 * actions[:, 2:]).exp()  # (5, K)
    mixed = torch.einsum("bk,kbchw->bchw", weights / weights.square().sum(1, keepdim=True).sqrt(), noises)
    a, b = actions[:, :2, None, None, None].unbind(1)
    expected = 0.01 * (1 + b / 2) * mixed + gain * contexts["condition"].mean(1)[:, None, None, None] * (1 + a / 2)
    torch.testing.assert_close(steer(generator, dark, actions), expected)


def test_mixed_noise_keeps_its_variance():
    generator = toy_generator()
    generator.noise_level = 0.01
    contexts = ToyCells().draw_contexts(40, rng_at(2))
    contexts["x0"], contexts["condition"] = torch.zeros(40, 3, 8, 8), torch.zeros(40, 5)
    actions = torch.rand(40, 6, generator=rng_at(3)) * 2 - 1
    actions[:, 1] = 0
    assert (steer(generator, contexts, actions) / 0.01).std() == pytest.approx(1, abs=0.03)


def test_steering_keeps_the_guidance_of_the_generator(contexts):
    generator = toy_generator()

    class Guided(type(generator.network)):
        def forward(self, x_t, t, condition, keep=None):
            v = super().forward(x_t, t, condition)
            return v if keep is None else torch.where(keep[:, None, None, None], v, 0)

    generator.network = Guided()
    generator.guidance, generator.noise_level = 1.0, 0.01
    dark = contexts.clone().set("x0", torch.zeros(5, 3, 8, 8))
    first = repeat_groups(dark, 2)[::2]  # the first of two drafts
    sampled = generator.sample(first["x0"], first["condition"], first["seed"])[0]
    only_first = torch.tensor([0, 0, 1.0, -1.0]).expand(5, 4)
    torch.testing.assert_close(steer(generator, dark, only_first), sampled, rtol=0, atol=1e-4)


def test_the_oracle_is_the_best_of_its_tries(world, contexts, monkeypatch):
    monkeypatch.setattr(Steer, "tries", 6)
    task = Steer(world)
    scene = task.prepare(contexts)
    best = []
    for i, seed in enumerate(contexts["seed"].tolist()):
        actions = torch.rand(6, 6, generator=rng_at(seed, 6)) * 2 - 1
        six = scene[i : i + 1].expand(6).clone()
        best.append(task.score(six, actions.numpy())["reward"].max())
    torch.testing.assert_close(task.bounds(scene)[1], torch.stack(best))


def test_one_draft_is_no_choice(world):
    with pytest.raises(ValueError, match="two drafts or more to pull to, got 1"):
        Steer(world, drafts=1)

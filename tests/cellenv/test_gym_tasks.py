"""What the three tasks do with an action, against closed forms."""

import numpy as np
import pytest
import torch
from toy_bandit import toy_generator, toy_world
from toy_cells import ToyCells

from cellenv.env import repeat_groups
from cellenv.gym import Paint, Select, Steer
from cellenv.gym.steer import steered
from cellenv.streams import normal_like, rng_at, seed_at


@pytest.fixture(scope="module")
def world():
    return toy_world()


@pytest.fixture(scope="module")
def contexts():
    return ToyCells().draw_contexts(5, rng_at(0))


def test_select_takes_the_candidate_that_was_chosen(world, contexts):
    task = Select(world, candidates=5)  # as many as contexts
    scene = task.prepare(contexts)
    grouped = repeat_groups(contexts, 5)
    drawn = world.generator.sample(grouped["x0"], grouped["condition"], grouped["seed"])[0].unflatten(0, (5, 5))
    torch.testing.assert_close(scene["candidates"], drawn)
    outcome = task.judge(scene, np.array([4, 0, 3, 3, 1]))
    for i, k in enumerate([4, 0, 3, 3, 1]):
        torch.testing.assert_close(outcome["image"][i], drawn[i, k])
        torch.testing.assert_close(
            outcome["reward"][i], world.rate(contexts[i : i + 1], drawn[i, k : k + 1])["reward"][0]
        )


def test_bounds_of_select_are_mean_and_best_of_each_context(world, contexts):
    task = Select(world, candidates=3)
    scene = task.prepare(contexts)
    rewards = torch.stack([task.judge(scene, np.full(5, k))["reward"] for k in range(3)], 1)  # (5, 3)
    untouched, oracle = task.bounds(scene)
    torch.testing.assert_close(untouched, rewards.mean(1))
    torch.testing.assert_close(oracle, rewards.max(1).values)


def test_steer_shows_drafts_and_their_rewards(world, contexts):
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
        knobs = np.full((5, 6), -1, np.float32)
        knobs[:, :2], knobs[:, 2 + k] = 0, 1
        torch.testing.assert_close(task.judge(scene, knobs)["image"], scene["drafts"][:, k], rtol=0, atol=2e-3)


def test_each_knob_does_what_it_says(contexts):
    """From black cells and little noise nothing is clamped: x1 = level (1 + b / 2) n' + gain mean(c) (1 + a / 2)."""
    generator = toy_generator()
    generator.noise_level = 0.01
    dark, gain = contexts.clone().set("x0", torch.zeros(5, 3, 8, 8)), generator.network.gain.item()
    seeds = torch.tensor([[seed_at(seed, k) for k in range(3)] for seed in contexts["seed"].tolist()])
    noises = torch.stack([normal_like(dark["x0"], seed) for seed in seeds.unbind(1)])  # (K, 5, 3, 8, 8)
    knobs = torch.rand(5, 5, generator=rng_at(1)) * 2 - 1
    weights = (4 * knobs[:, 2:]).exp()  # (5, K)
    pulled = torch.einsum("bk,kbchw->bchw", weights / weights.square().sum(1, keepdim=True).sqrt(), noises)
    a, b = knobs[:, :2, None, None, None].unbind(1)
    expected = 0.01 * (1 + b / 2) * pulled + gain * contexts["condition"].mean(1)[:, None, None, None] * (1 + a / 2)
    torch.testing.assert_close(steered(generator, dark, knobs), expected)


def test_pulled_noise_keeps_its_variance():
    generator = toy_generator()
    generator.noise_level = 0.01
    contexts = ToyCells().draw_contexts(40, rng_at(2))
    contexts["x0"], contexts["condition"] = torch.zeros(40, 3, 8, 8), torch.zeros(40, 5)
    knobs = torch.rand(40, 6, generator=rng_at(3)) * 2 - 1
    knobs[:, 1] = 0
    assert (steered(generator, contexts, knobs) / 0.01).std() == pytest.approx(1, abs=0.03)


def test_steering_knows_guidance(contexts):
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
    only = torch.tensor([0, 0, 1.0, -1.0]).expand(5, 4)
    torch.testing.assert_close(steered(generator, dark, only), sampled, rtol=0, atol=1e-4)


def test_oracle_of_steer_is_the_best_of_its_tries(world, contexts, monkeypatch):
    monkeypatch.setattr(Steer, "tries", 6)
    task = Steer(world)
    scene = task.prepare(contexts)
    best = []
    for i, seed in enumerate(contexts["seed"].tolist()):
        knobs = torch.rand(6, 6, generator=rng_at(seed, 6)) * 2 - 1
        six = scene[i : i + 1].expand(6).clone()
        best.append(task.judge(six, knobs.numpy())["reward"].max())
    torch.testing.assert_close(task.bounds(scene)[1], torch.stack(best))


def test_paint_is_rated_as_it_is(world, contexts):
    images = torch.rand(5, 3, 8, 8, generator=rng_at(4)) * 2 - 1
    outcome = Paint(world).judge(contexts, images.numpy())
    torch.testing.assert_close(outcome["rewards", "bright"], images.mean((1, 2, 3)))
    contrast = images.flatten(1).std(1) * (contexts["moa"] + 1)
    torch.testing.assert_close(outcome["reward"], images.mean((1, 2, 3)) + 0.5 * contrast)
    select = Select(world)  # the scale is that of Select with eight candidates
    for paint, of_select in zip(Paint(world).bounds(contexts), select.bounds(select.prepare(contexts)), strict=True):
        torch.testing.assert_close(paint, of_select)


def test_a_world_is_frozen_and_shared():
    from copy import deepcopy

    generator = toy_generator().train()
    world = toy_world(generator=generator)
    assert deepcopy(world) is world and generator.training and not world.generator.training
    with torch.no_grad():
        generator.network.gain.add_(1)
    assert world.generator.network.gain.item() == pytest.approx(0.2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_world_generates_in_its_precision(contexts, precision):
    generator, seen = toy_generator(), []

    class Noted(type(generator.network)):
        def forward(self, x_t, t, condition):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x_t, t, condition)

    generator.network = Noted()
    world = toy_world(generator=generator, precision=precision)
    task = Steer(world)
    outcome = task.judge(task.prepare(contexts), np.zeros((5, 6), np.float32))
    assert set(seen) == {precision == "bf16"} and outcome["image"].dtype == torch.float32
    with pytest.raises(ValueError, match="fp32 or bf16"):
        toy_world(precision="fp16")


def test_contexts_depend_on_their_own_stream_alone(world):
    streams = [np.random.default_rng(i) for i in range(3)]
    together = world.draw(streams)
    alone = torch.cat([world.draw([np.random.default_rng(i)]) for i in range(3)])
    assert (together == alone).all() and len(together["seed"].unique()) == 3
    assert not (world.draw(streams)["seed"] == together["seed"]).any()


def test_pixels_are_the_nearest_of_256_levels(world):
    levels = np.arange(192).reshape(1, 3, 8, 8) + 64
    images = torch.from_numpy(levels).float() / 127.5 - 1
    for shift in (0, 0.4 / 127.5, -0.4 / 127.5):
        seen = Paint(world).view((images + shift).clamp(-1, 1))
        assert seen.dtype == np.uint8 and (seen == levels).all()

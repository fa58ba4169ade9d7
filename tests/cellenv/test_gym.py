"""The bandits as Gymnasium and TorchRL see them, on a toy world."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torchrl.envs import GymEnv, check_env_specs
from toy_bandit import toy_suite, toy_world

import cellenv  # noqa: F401  registers the tasks
from cellenv.gym import Scale, Select, TaskEnv, evaluate, fixed_contexts

TASKS = ("Select", "Steer", "Paint")
PARTS = {"Select": {"candidates"}, "Steer": {"drafts", "rewards"}, "Paint": set()}
pytestmark = pytest.mark.filterwarnings("ignore:.*infinity:UserWarning")  # features have no bounds


@pytest.fixture(scope="module")
def world():
    return toy_world()


def make(task, world, **options):
    return gymnasium.make(f"cellenv/{task}-v0", world=world, **options)


def make_vec(task, world, n, **options):
    return gymnasium.make_vec(f"cellenv/{task}-v0", num_envs=n, world=world, **options)


def assert_same(a, b):
    """Equal trees; floats to 1e-5, images to one level of 255, since batches differ in rounding."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, tuple) or (isinstance(a, np.ndarray) and a.dtype == object):
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    elif isinstance(a, str):
        assert a == b
    else:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a.astype(float), b.astype(float), atol=1 if a.dtype == np.uint8 else 1e-5)


@pytest.mark.parametrize("observation", ["images", "features"])
@pytest.mark.parametrize("task", TASKS)
def test_checkers_pass(task, observation, world):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*render_mode.*")
        check_env(make(task, world, observation=observation, render_mode="rgb_array").unwrapped)
    env = GymEnv(f"cellenv/{task}-v0", world=world, observation=observation)
    check_env_specs(env)
    rollout = env.rollout(3, break_when_any_done=False)
    assert rollout["next", "terminated"].all() and len(rollout["next", "reward"].unique()) == 3
    assert {"condition", "control", *PARTS[task]} <= set(rollout.keys())


@pytest.mark.parametrize("task", TASKS)
def test_checker_of_stable_baselines3_passes(task, world):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():  # small images and stacks want a features extractor of one's own
        warnings.filterwarnings("ignore", ".*(minimal resolution|unconventional shape)")
        for observation in ("images", "features"):
            checker.check_env(make(task, world, observation=observation))


def test_observations_are_what_they_say(world):
    seen, info = make("Select", world, candidates=4).reset(seed=3)
    assert {k: (v.shape, v.dtype.name) for k, v in seen.items()} == {
        "condition": ((5,), "float32"),
        "control": ((3, 8, 8), "uint8"),
        "candidates": ((4, 3, 8, 8), "uint8"),
    }
    env = TaskEnv(Select(world, candidates=4, observation="features"))
    features, _ = env.reset(seed=3)
    for key in ("control", "candidates"):  # the toy's features are means of channels
        np.testing.assert_allclose(features[key], seen[key].mean((-2, -1)) / 127.5 - 1, atol=1 / 127.5)
    compound = world.data.compounds.index(info["compound"])
    np.testing.assert_array_equal(seen["condition"], world.data.conditions[compound].numpy())
    assert info["moa"] == world.data.moas[world.data.compound_moa[compound]]


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_equals_separate_environments(task, world):
    batch = make_vec(task, world, 3)
    apart = make_vec(
        task, world, 3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    assert batch.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert_same(*(env.reset(seed=5) for env in (batch, apart)))
    batch.action_space.seed(0)
    for _ in range(3):
        action = batch.action_space.sample()
        for a, b in zip(batch.step(action), apart.step(action), strict=True):
            assert_same(a, b)
    assert_same(batch.reset(seed=[7, 8, 7])[0], apart.reset(seed=[7, 8, 7])[0])


def test_each_environment_has_a_stream_of_its_own(world):
    batch = make_vec("Paint", world, 3)
    seen = batch.reset(seed=[4, 9, 4])[0]["control"]
    assert np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[0], seen[1])
    went_on = batch.reset()[0]["control"]
    assert np.array_equal(went_on[0], went_on[2]) and not np.array_equal(went_on, seen)


def test_what_a_user_keeps_is_not_changed(world):
    batch = make_vec("Steer", world, 2)
    seen = batch.reset(seed=0)[0]
    kept = {key: value.copy() for key, value in seen.items()}
    for value in seen.values():
        value[:] = 0
    final = batch.step(batch.action_space.sample())[4]["final_obs"]
    assert_same(final[1], {key: value[1] for key, value in kept.items()})


def test_info_has_every_reward_and_the_reward_is_their_sum(world):
    env = make("Steer", world)
    _, info = env.reset(seed=0)
    assert "rewards" not in info
    _, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert terminated and not truncated
    assert info["rewards"].keys() == {"bright", "contrast"}
    assert reward == pytest.approx(info["rewards"]["bright"] + 0.5 * info["rewards"]["contrast"], abs=1e-6)
    batch = make_vec("Steer", world, 2)
    batch.reset(seed=0)
    _, rewards, _, _, infos = batch.step(np.zeros((2, 6), np.float32))
    named = infos["final_info"]["rewards"]
    np.testing.assert_allclose(rewards, named["bright"] + 0.5 * named["contrast"], atol=1e-6)


@pytest.mark.parametrize(
    ("task", "action", "message"),
    [
        ("Select", 8, r"integers in \[0, 7\]; got values from 8 to 8"),
        ("Select", -1, r"integers in \[0, 7\]"),
        ("Select", 0.5, r"shape \(\), integers in \[0, 7\]; got shape \(1,\) of float64"),
        ("Select", [1, 2], r"need 1 of shape \(\).*got shape \(1, 2\)"),
        ("Steer", np.zeros(3), r"need 1 of shape \(6,\), numbers in \[-1.0, 1.0\]; got shape \(1, 3\)"),
        ("Steer", np.full(6, 1.5), r"got values from 1.5 to 1.5"),
        ("Steer", np.full(6, np.nan), r"numbers in \[-1.0, 1.0\]; got values from nan"),
        ("Paint", np.zeros((3, 8, 9)), r"need 1 of shape \(3, 8, 8\)"),
    ],
)
def test_wrong_actions_are_refused(task, action, message, world):
    env = TaskEnv(f"cellenv.gym.{task.lower()}:{task}", world=world)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)
    env.step(env.action_space.sample())  # the episode is still there


def test_wrong_use_is_refused(world):
    env = TaskEnv(Select(world))
    for call in (env.render, lambda: env.step(0)):
        with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
            call()
    env.reset()
    env.step(0)
    with pytest.raises(ResetNeeded, match="one step"):
        env.step(0)
    with pytest.raises(ValueError, match="takes no options; got candidates"):
        TaskEnv(Select(world), candidates=3)
    with pytest.raises(ValueError, match="images, features; got 'masks'"):
        make("Select", world, observation="masks")
    with pytest.raises(ValueError, match="two candidates or more"):
        make("Select", world, candidates=1)
    with pytest.raises(ValueError, match="num_envs = 0"):
        make_vec("Select", world, 0)
    with pytest.raises(ValueError, match="each of 2 environments, got 3"):
        make_vec("Select", world, 2).reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match=r"no classifier.*give World\(features"):
        make("Select", toy_world(features=None), observation="features")


def test_render_shows_the_image_its_outlines_and_its_rewards():
    masked = toy_world()
    square = torch.zeros(8, 8, dtype=torch.int32)
    square[2:6, 2:6] = 1
    masked.masks = lambda images: (torch.zeros(len(images), 8, 8), square.expand(len(images), 8, 8))
    texts, pictures = {}, {}
    for name, world in {"plain": toy_world(), "masked": masked}.items():
        words, drawn = (make("Paint", world, render_mode=mode) for mode in ("ansi", "rgb_array"))
        black = np.full((3, 8, 8), -1, np.float32)
        for env in (words, drawn):
            env.reset(seed=2)
        before = drawn.render()
        assert "reward" not in words.render()
        _, reward, _, _, info = words.step(black)
        drawn.step(black)
        texts[name], pictures[name] = words.render(), drawn.render()
        assert before.dtype == np.uint8 and not np.array_equal(before[:, -32:], pictures[name][:, -32:])
    assert f"reward {reward:.2f}" in texts["plain"] and f"bright {info['rewards']['bright']:.2f}" in texts["plain"]
    assert info["compound"] in texts["plain"]
    amber = (pictures["masked"] == (255, 214, 102)).all(-1)
    assert amber.sum() == 4 * 16 - 4 and not (pictures["plain"] == (255, 214, 102)).all(-1).any()
    batch = make_vec("Paint", masked, 2, render_mode="rgb_array")
    batch.reset(seed=0)
    assert len(batch.render()) == 2 and make("Paint", masked).unwrapped.render_mode is None


def test_masks_come_from_the_segmenter_of_the_suite(world):
    from torchrl.envs import Compose

    from rewards.segmentation import Masks
    from rewards.transforms import Segment

    def segment(images, channels):
        return Masks((images[:, 2] > 0).int(), (images[:, 0] > 0).int())

    images = world.data.pixels[:4]
    nuclei, cells = toy_world(suite=Compose(Segment(segment), toy_suite())).masks(images)
    assert (nuclei == (images[:, 2] > 0)).all() and (cells == (images[:, 0] > 0)).all()
    assert world.masks(images) is None


def test_name_and_seed_are_enough_in_another_process():
    """Found by "module:id" with nothing imported, and no rewards are loaded before they are needed."""
    code = """
import sys, json, gymnasium
sys.path.insert(0, sys.argv[1])
try:
    gymnasium.make("cellenv:cellenv/Steer-v0", observation="no such")
except ValueError as error:
    light = "no such" in str(error) and "rewards" not in sys.modules
from toy_bandit import toy_world
env = gymnasium.make("cellenv:cellenv/Steer-v0", world=toy_world())
seen, info = env.reset(seed=11)
print(json.dumps([light, {k: v.tolist() for k, v in seen.items()}, env.step([0.5, -0.5, 0.25, 1.0, 0.0, -1.0])[1]]))
"""
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    light, seen, reward = json.loads(done.stdout.splitlines()[-1])
    env = make("Steer", toy_world())
    here, _ = env.reset(seed=11)
    assert light and seen == {k: v.tolist() for k, v in here.items()}
    assert reward == pytest.approx(env.step([0.5, -0.5, 0.25, 1.0, 0.0, -1.0])[1], abs=1e-6)


def test_the_task_of_the_documentation_works(world, monkeypatch, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text()
    blocks = {block.split("\n", 1)[0]: block for block in re.findall(r"```python\n(.*?)```", page, re.S)}
    (tmp_path / "trust.py").write_text(blocks["# trust.py"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(gymnasium.registry, "mine/Trust-v0", raising=False)
    exec(blocks["gymnasium.register("], {"gymnasium": gymnasium})
    env = gymnasium.make("mine/Trust-v0", world=world)
    check_env(env.unwrapped, skip_render_check=True)
    task, contexts = env.unwrapped.task, fixed_contexts(world.data, 6)
    scale = Scale.fit(task, contexts)
    for action in (0, 1):
        assert evaluate(task, lambda seen: [action] * 6, scale=scale).score == pytest.approx(action, abs=1e-3)  # noqa: B023
    assert gymnasium.make_vec("mine/Trust-v0", num_envs=2, world=world).reset(seed=0)[0]["control"].shape[0] == 2

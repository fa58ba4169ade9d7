"""Observations and actions of tasks, and a task of one's own as documented."""

import re

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from cellenv.gym import Paint, Scale, Select, Steer, evaluate, fixed_contexts
from cellenv.gym.task import validate_actions
from tests.cellenv.toy_bandit import toy_world


@pytest.fixture(scope="module")
def world():
    return toy_world()


def test_pixels_are_the_nearest_of_256_levels(world):
    levels = np.arange(192).reshape(1, 3, 8, 8) + 64
    images = torch.from_numpy(levels).float() / 127.5 - 1
    for shift in (0, 0.4 / 127.5, -0.4 / 127.5):
        seen = Paint(world).view((images + shift).clamp(-1, 1))
        assert seen.dtype == np.uint8 and (seen == levels).all()


def test_features_keep_the_leading_dimensions(world):
    view = Paint(world, observation="features").view
    images = world.data.pixels[:6].unflatten(0, (2, 3))
    np.testing.assert_allclose(view(images), images.mean((3, 4)), atol=1e-6)  # the toy's features
    assert view.space(2, 3).shape == (2, 3, 3)


def test_the_name_holds_what_the_score_depends_on(world):
    names = [task.name for task in (Paint(world), Select(world, candidates=3), Steer(world, observation="features"))]
    assert names == ["Paint", "Select(candidates=3)", "Steer(drafts=4)"]


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        (spaces.Discrete(8), [8], r"need 1 of shape \(\), integers in \[0, 7\]; got values from 8 to 8"),
        (spaces.Discrete(8), [-1], r"integers in \[0, 7\]; got values from -1"),
        (spaces.Discrete(8, start=2), [1], r"integers in \[2, 9\]"),
        (spaces.Discrete(8), [0.5], r"got shape \(1,\) of float64"),
        (spaces.Discrete(8), [[1, 2]], r"need 1 of shape \(\).*got shape \(1, 2\)"),
        (spaces.Box(-1, 1, (6,)), np.zeros((1, 3)), r"shape \(6,\), numbers in \[-1.0, 1.0\]; got shape \(1, 3\)"),
        (spaces.Box(-1, 1, (6,)), np.zeros((2, 6)), r"need 1 of shape \(6,\).*got shape \(2, 6\)"),
        (spaces.Box(-1, 1, (6,)), np.full((1, 6), 1.5), "got values from 1.5 to 1.5"),
        (spaces.Box(-1, 1, (6,)), np.full((1, 6), np.nan), r"numbers in \[-1.0, 1.0\]; got values from nan"),
        (spaces.Box(*np.array([[-1, 0], [1, 9]], np.float32)), [[0, -1]], r"in \[-1.0, 9.0\], by place"),
        (spaces.Box(*np.array([[-1, 0], [1, 9]], np.float32)), [[5, 5]], r"of the space say; got values from 5 to 5"),
        (spaces.MultiBinary(2), [[0, 1]], r"Discrete or Box; got MultiBinary\(2\)"),
    ],
)
def test_wrong_actions_are_refused(space, actions, message):
    with pytest.raises(ValueError, match=message):
        validate_actions(actions, space, 1)


def test_actions_take_the_dtype_of_the_space():
    box = validate_actions([[0, 1]], spaces.Box(-1, 1, (2,), np.float32), 1)
    assert box.dtype == np.float32 and box.tolist() == [[0, 1]]
    assert validate_actions(np.array([3], np.uint8), spaces.Discrete(8), 1).dtype == np.int64


def test_wrong_options_are_refused(world):
    with pytest.raises(ValueError, match="images, features; got 'masks'"):
        Select(world, observation="masks")
    with pytest.raises(ValueError, match=r"has its rewards already.*got rewards=\('moa=2',\)"):
        Select(world, rewards=["moa=2"])


def test_the_task_of_the_documentation_works(world, monkeypatch, tmp_path, request):
    page = (request.config.rootpath / "docs" / "benchmark.md").read_text()
    blocks = {block.split("\n", 1)[0]: block for block in re.findall(r"```python\n(.*?)```", page, re.S)}
    (tmp_path / "trust.py").write_text(blocks["# trust.py"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(gymnasium.registry, "mine/Trust-v0", raising=False)
    exec(blocks["gymnasium.register("], {"gymnasium": gymnasium})
    env = gymnasium.make("mine/Trust-v0", world=world)
    check_env(env.unwrapped, skip_render_check=True)
    task, contexts = env.unwrapped.task, fixed_contexts(world.data, 6)
    scale = Scale.fit(task, contexts)
    control, drawn = (evaluate(task, lambda seen, a=a: [a] * 6, scale=scale) for a in (0, 1))
    assert control.score + drawn.score == pytest.approx(0, abs=1e-3)  # 0 is the mean of the two actions
    assert scale.score(np.maximum(control.rewards, drawn.rewards)) == pytest.approx(1, abs=1e-3)
    assert gymnasium.make_vec("mine/Trust-v0", num_envs=2, world=world).reset(seed=0)[0]["control"].shape[0] == 2

"""The environments as Gymnasium, TorchRL and Stable-Baselines3 see them, on a toy world."""

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torchrl.envs import Compose, GymEnv, check_env_specs

import cellenv  # noqa: F401  registers the tasks
from cellenv.gym import Paint, Scale, Select, TaskEnv, World, evaluate, fixed_contexts
from rewards.transforms import ImageReward, WeightedSum
from tests.cellenv.toy_bandit import brightness, toy_world
from tests.cellenv.toy_cells import UnlabelledCells

TASKS = ("Select", "Steer", "Paint")
PARTS = {"Select": {"candidates"}, "Steer": {"drafts", "rewards"}, "Paint": set()}
REWARDS = {"moa", "containment", "roundness", "nucleus_size", "cell_size", "nucleus_count", "cell_count"}
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
def test_a_vector_equals_separate_environments(task, world):
    batch = make_vec(task, world, 3)
    separate = make_vec(
        task, world, 3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    assert batch.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert_same(*(env.reset(seed=5) for env in (batch, separate)))
    batch.action_space.seed(0)
    for _ in range(3):
        action = batch.action_space.sample()
        for a, b in zip(batch.step(action), separate.step(action), strict=True):
            assert_same(a, b)
    assert_same(batch.reset(seed=[7, 8, 7])[0], separate.reset(seed=[7, 8, 7])[0])


def test_each_environment_has_a_stream_of_its_own(world):
    batch = make_vec("Paint", world, 3)
    seen = batch.reset(seed=[4, 9, 4])[0]["control"]
    assert np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[0], seen[1])
    batch.reset(seed=5)
    assert batch.np_random_seed == 5
    batch.reset(seed=[4, 9, 4])
    went_on = batch.reset()[0]["control"]
    assert np.array_equal(went_on[0], went_on[2]) and not np.array_equal(went_on, seen)


def test_observations_may_be_overwritten_by_the_user(world):
    batch = make_vec("Steer", world, 2)
    seen = batch.reset(seed=0)[0]
    before = {key: value.copy() for key, value in seen.items()}
    for value in seen.values():
        value[:] = 0
    final = batch.step(batch.action_space.sample())[4]["final_obs"]
    assert_same(final[1], {key: value[1] for key, value in before.items()})


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


def test_a_wrong_action_does_not_end_the_episode(world):
    env = TaskEnv("cellenv.gym.select:Select", world=world)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"integers in \[0, 7\]; got values from 8"):
        env.step(8)
    env.step(7)


def test_wrong_use_is_refused(world):
    env, batch = TaskEnv(Select(world)), make_vec("Select", world, 2)
    for call in (env.render, lambda: env.step(0), batch.render, lambda: batch.step(np.zeros(2, int))):
        with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
            call()
    env.reset()
    env.step(0)
    with pytest.raises(ResetNeeded, match="one step"):
        env.step(0)
    with pytest.raises(ValueError, match="takes no options; got candidates"):
        TaskEnv(Select(world), candidates=3)
    with pytest.raises(ValueError, match="num_envs = 0"):
        make_vec("Select", world, 0)
    with pytest.raises(ValueError, match="each of 2 environments, got 3"):
        batch.reset(seed=[1, 2, 3])


def test_render_shows_the_control_and_then_the_scored_image(world):
    words, drawn = (make("Paint", world, render_mode=mode) for mode in ("ansi", "rgb_array"))
    seen = [env.reset(seed=2)[0]["control"] for env in (words, drawn)][1]
    before = drawn.render()
    assert "reward" not in words.render()
    black = np.full((3, 8, 8), -1, np.float32)
    _, reward, _, _, info = words.step(black)
    drawn.step(black)
    assert f"reward {reward:.2f}\nbright -1.00" in words.render() and info["compound"] in words.render()
    assert before[4:36, -36:-4].any() and seen.any() and not drawn.render()[4:36, -36:-4].any()
    assert make("Paint", world).unwrapped.render_mode is None


def test_all_frames_of_an_environment_have_one_size(world):
    env = make("Select", world, render_mode="rgb_array")
    sizes = []
    for seed in range(6):
        env.reset(seed=seed)
        sizes.append(env.render().shape)
        env.step(seed)
        sizes.append(env.render().shape)
    batch = make_vec("Select", world, 3, render_mode="rgb_array")
    batch.reset(seed=0)
    sizes += [frame.shape for frame in batch.render()]
    batch.step(np.zeros(3, int))
    sizes += [frame.shape for frame in batch.render()]
    assert len(set(sizes)) == 1 and len(sizes) == 18


def test_a_vector_renders_the_images_scored_last(world):
    batch = make_vec("Paint", world, 2, render_mode="ansi")
    batch.reset(seed=0)
    first = batch.render()
    rewards = batch.step(np.full((2, 3, 8, 8), 0.5, np.float32))[1]
    frames = batch.render()
    for frame, before, reward in zip(frames, first, rewards, strict=True):
        assert frame.startswith(before) and f"reward {reward:.2f}\nbright 0.50" in frame


def test_an_environment_can_be_sent_to_another_process(world):
    env = TaskEnv(Paint(world))
    env.reset(seed=4)
    copy = pickle.loads(pickle.dumps(env))
    action = np.full((3, 8, 8), 0.25, np.float32)
    assert copy.step(action)[1] == pytest.approx(env.step(action)[1], abs=1e-6)
    assert_same(copy.reset(seed=5)[0], env.reset(seed=5)[0])


@pytest.mark.slow
def test_the_embedded_world_out_of_the_box():
    env = gymnasium.make("cellenv/Select-v0", candidates=2, render_mode="rgb_array")
    seen, _ = env.reset(seed=0)
    assert seen["candidates"].shape == (2, 3, 96, 96) and seen["candidates"].std() > 10
    _, reward, terminated, _, info = env.step(1)
    assert terminated and np.isfinite(reward) and info["rewards"].keys() == REWARDS
    assert (env.render() == (255, 255, 255)).all(-1).any()  # the outline of a nucleus
    assert len(pickle.dumps(env.unwrapped)) < 20e6
    world: World = env.unwrapped.task.world
    batch = gymnasium.make_vec("cellenv/Steer-v0", num_envs=3, world=world, observation="features")
    seen, _ = batch.reset(seed=0)
    assert seen["drafts"].shape == (3, 4, 96) and seen["rewards"].shape == (3, 4, 7)
    assert np.isfinite(batch.step(np.zeros((3, 6), np.float32))[1]).all()
    task = Select(world, candidates=2, observation="features")
    scale = Scale.fit(task, fixed_contexts(world.data, 3))
    scores = [evaluate(task, lambda seen, k=k: [k] * 3, scale=scale).score for k in (0, 1)]
    assert sum(scores) == pytest.approx(0, abs=1e-3) and max(scores) <= 1 + 1e-3


def test_rewards_are_options_of_the_environment(monkeypatch, tmp_path):
    (tmp_path / "lab.py").write_text("def sharpness(images):\n    return images.flatten(1).std(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    rewards = ("roundness=0", "sharpness=lab:sharpness:0.5")
    env = gymnasium.make("cellenv/Paint-v0", rewards=rewards)
    batch = gymnasium.make_vec("cellenv/Paint-v0", num_envs=2, rewards=rewards)
    env.reset(seed=0)
    batch.reset(seed=0)
    image = np.linspace(-1, 1, 3 * 96 * 96, dtype=np.float32).reshape(3, 96, 96)
    info = env.step(image)[4]
    assert info["rewards"].keys() == {*REWARDS, "sharpness"} - {"roundness"}
    assert info["rewards"]["sharpness"] == pytest.approx(image.std(ddof=1), abs=1e-4)
    infos = batch.step(np.stack([image, image]))[4]
    np.testing.assert_allclose(infos["final_info"]["rewards"]["sharpness"], image.std(ddof=1), atol=1e-4)


def test_seeds_may_be_integers_of_numpy(world):
    one, batch = make("Select", world, candidates=2), make_vec("Select", world, 2, candidates=2)
    for env in (one, batch):
        assert_same(env.reset(seed=np.int64(5))[0], env.reset(seed=5)[0])
    assert_same(batch.reset(seed=list(np.array([7, 8])))[0], batch.reset(seed=[7, 8])[0])


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_cells_without_mechanisms_are_played_shown_and_scored(mode):
    suite = Compose(ImageReward("bright", brightness), WeightedSum({"bright": 1.0}))
    world = toy_world(data=UnlabelledCells(), suite=suite)
    env = make("Select", world, render_mode=mode)
    info = env.reset(seed=0)[1]
    assert info["moa"] == "unknown" and info["compound"] in world.data.compounds
    env.step(0)
    shown = env.render()
    assert shown.ndim == 3 if mode == "rgb_array" else "(unknown)\nreward" in shown
    task = Select(world)
    scale = Scale.fit(task, fixed_contexts(world.data, 4))
    assert np.isfinite(evaluate(task, lambda seen: [0] * 4, scale=scale).score)

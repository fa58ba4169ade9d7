"""The baselines of the benchmark on a toy world: what they learn, how they are scored, what is written."""

import csv
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from cellenv.gym import Scale, Select, Steer
from cellenv.gym.score import fixed_contexts, play
from cellenv.streams import rng_at


@pytest.fixture
def toys(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "tests" / "cellenv")
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import toy_bandit

    return toy_bandit


@pytest.fixture
def script(toys):
    pytest.importorskip("stable_baselines3")
    import gym_benchmark

    return gym_benchmark


@pytest.fixture
def config(script, tmp_path):
    return replace(script.PRESETS["smoke"], output_dir=tmp_path, contexts=40, curve_contexts=20, stock=60)


def test_a_stock_judges_as_its_task_does(toys):
    from gym_stock import SelectStock, Stock

    world, rng = toys.toy_world(), np.random.default_rng(0)
    contexts = world.data.draw_contexts(7, rng_at(0))
    for kind, stock_kind, actions in (
        (Select, SelectStock, rng.integers(8, size=7)),
        (Steer, Stock, rng.uniform(-1, 1, (7, 6)).astype(np.float32)),
    ):
        task = kind(world, observation="features")
        stock, order = stock_kind(task, contexts), torch.tensor([4, 0, 6, 6, 1, 2, 3])
        scenes, fresh = stock.scenes[order], task.prepare(contexts[order])
        for key, value in task.observe(fresh).items():
            np.testing.assert_allclose(stock.observe(scenes)[key], value, atol=1e-6)
        judged = [t.judge(s, actions)["reward"] for t, s in ((stock, scenes), (task, fresh))]
        torch.testing.assert_close(*judged)
        drawn = stock.draw([np.random.default_rng(i) for i in range(30)])
        assert set(drawn["row"].tolist()) == set(range(7))


def test_shuffled_candidates_shuffle_their_scores(script, toys):
    from gym_agents import Scores, statistics

    task = Select(toys.toy_world(), candidates=5, observation="features")
    seen = task.observe(task.prepare(task.world.data.draw_contexts(6, rng_at(1))))
    network = Scores(task.observation_space, statistics(seen))
    order = [3, 0, 4, 1, 2]
    tensors = {key: torch.from_numpy(value) for key, value in seen.items()}
    shuffled = tensors | {"candidates": tensors["candidates"][:, order]}
    torch.testing.assert_close(network(shuffled), network(tensors)[:, order])
    assert network(tensors).std(1).min() > 0
    for key, value in tensors.items():
        standard = network.standard(tensors, key).flatten(0, -2)
        torch.testing.assert_close(standard.mean(0), torch.zeros(value.shape[-1]), rtol=0, atol=1e-4)


def test_shuffled_drafts_shuffle_their_pulls(script, toys):
    from gym_agents import Knobs, statistics

    task = Steer(toys.toy_world(), drafts=5, observation="features")
    seen = task.observe(task.prepare(task.world.data.draw_contexts(6, rng_at(1))))
    network, order = Knobs(task.observation_space, statistics(seen)), [3, 0, 4, 1, 2]
    tensors = {key: torch.from_numpy(value) for key, value in seen.items()}
    shuffled = tensors | {key: tensors[key][:, order] for key in ("drafts", "rewards")}
    knobs, turned = network(tensors), network(shuffled)
    torch.testing.assert_close(turned[:, :2], knobs[:, :2])
    torch.testing.assert_close(turned[:, 2:], knobs[:, 2:][:, order])
    assert knobs.shape == (6, 7) and knobs[:, 2:].std(1).min() > 0


def test_the_rule_takes_the_best_draft(script, toys):
    from gym_agents import best_draft

    task = Steer(toys.toy_world(), observation="features")
    scene = task.prepare(task.world.data.draw_contexts(9, rng_at(5)))
    kept = task.judge(scene, best_draft(task.observe(scene)))["image"]
    total = sum(scene["rated", "rewards", name] for name in task.world.rewards)  # (9, 4)
    torch.testing.assert_close(kept, scene["drafts"][torch.arange(9), total.argmax(1)], rtol=0, atol=2e-3)
    assert len(total.argmax(1).unique()) > 1


def test_agents_learn_to_choose(script, toys, config):
    """Brightness is what a mean feature shows: both agents come near the oracle, a constant does not."""
    from gym_stock import SelectStock

    task = Select(toys.toy_world(), candidates=4, observation="features")
    train = SelectStock(task, task.world.data.draw_contexts(200, rng_at(2)))
    test = SelectStock(task, fixed_contexts(task.world.data, 40))
    scale = Scale.fit(test, test.scenes)
    config = replace(config, steps=1500, constant_contexts=60)
    for agent in ("PPO", "DQN"):
        run = script.learn(agent, train, test, scale, 0, config)
        assert run.curve[-1][1] == pytest.approx(float(scale.score(run.rewards))) and run.curve[-1][1] > 0.5
        assert [steps >= 750 for steps, _ in run.curve] == [False, True, True]
    assert abs(float(scale.score(script.best_constant(train, test, config).rewards))) < 0.35


def test_interval_covers_contexts_and_seeds(script):
    rng = np.random.default_rng(0)
    n = 400
    untouched = tuple(rng.normal(0, 1, n))
    oracle = tuple(np.asarray(untouched) + 2)
    scale = Scale(fingerprint=None, untouched=untouched, oracle=oracle)
    exact = script.interval(np.asarray([untouched, oracle]), scale)
    assert exact.mean == pytest.approx(0.5) and (exact.low, exact.high) == pytest.approx((0, 1))  # seeds: 0 and 1
    noise = np.asarray(untouched) + rng.normal(1, 4, n)
    one = script.interval(noise[None], scale)
    assert one.high - one.low == pytest.approx(2 * 1.96 * 4 / 2 / n**0.5, rel=0.15)
    same = script.interval(np.asarray([oracle] * 3), scale)
    assert same.low == pytest.approx(1) and same.high == pytest.approx(1)


def test_best_constant_is_the_best_on_training_contexts(script, toys, config):
    from gym_stock import Stock

    task = Steer(toys.toy_world(), observation="features")
    train, test = (Stock(task, task.world.data.draw_contexts(8, rng_at(i))) for i in (3, 4))
    config = replace(config, constants=6, constant_contexts=8)
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 6)).astype(np.float32)
    actions[0] = 0
    means = [play(task, lambda seen, a=a: np.stack([a] * 8), train.scenes.exclude("row")).mean() for a in actions]
    best = actions[int(np.argmax(means))]
    expected = play(task, lambda seen: np.stack([best] * 8), test.scenes.exclude("row"))
    np.testing.assert_allclose(script.best_constant(train, test, config).rewards, expected, atol=1e-6)


def test_whole_benchmark(script, toys, config):
    suite = toys.toy_suite()
    worlds = {split: toys.toy_world(suite=suite) for split in ("train", "test")}
    board = script.benchmark(worlds, config)
    assert board == (config.output_dir / "leaderboard.md").read_text()
    rows = list(csv.DictReader((config.output_dir / "leaderboard.csv").read_text().splitlines()))
    agents = {(row["task"], row["agent"]) for row in rows}
    common = {"oracle", "random", "best constant", "PPO"}
    assert agents == {("Select", a) for a in common | {"DQN"}} | {("Steer", a) for a in common | {"SAC", "best draft"}}
    for row in rows:
        assert float(row["low"]) <= float(row["score"]) <= float(row["high"])
        assert row["agent"] != "oracle" or float(row["score"]) == pytest.approx(1)
        assert row["agent"] != "random" or abs(float(row["score"])) < 0.5
    points = list(csv.DictReader((config.output_dir / "curves.csv").read_text().splitlines()))
    assert {(p["task"], p["agent"], p["seed"]) for p in points if p["steps"] == "0"} == {
        (task, agent, seed) for task, agent in agents if agent in ("PPO", "DQN", "SAC") for seed in "01"
    }
    assert (config.output_dir / "curves.png").read_bytes().startswith(b"\x89PNG")
    saved = {file: file.stat().st_mtime_ns for file in (config.output_dir / "runs").iterdir()}
    assert len(saved) == 2 * (1 + 3 * 2) + 1  # on each task: the constant; random, two learners, two seeds; best draft
    next(iter(saved)).unlink()  # as if it had been stopped in that run
    assert script.benchmark(worlds, config) == board
    changed = [file for file, then in saved.items() if file.stat().st_mtime_ns != then]
    assert changed == [next(iter(saved))]
    with pytest.raises(ValueError, match="steps=64, now 65"):
        script.benchmark(worlds, replace(config, steps=65))
    scales = config.output_dir / "scales.json"  # measured here, since none is stored for the toys
    assert Scale.load(Select(worlds["test"]), fixed_contexts(worlds["test"].data, 40), scales).score([0.0] * 40) < 1


@pytest.mark.parametrize("name", ["gym_benchmark", "fit_gym", "gym_throughput"])
def test_help_needs_no_heavy_import(name, request):
    command = [sys.executable, "-X", "importtime", f"examples/{name}.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--output" in done.stdout and "torch" not in done.stderr

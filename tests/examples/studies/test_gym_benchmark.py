"""The whole benchmark on a toy world: what is written, and what a second call reads."""

import csv
from dataclasses import replace

import pytest

pytest.importorskip("stable_baselines3")

from cellenv.gym import Scale, Select, Steer
from cellenv.gym.score import fixed_contexts
from examples.studies import gym_benchmark, gym_report
from examples.studies.gym_benchmark import benchmark, load_or_fit_scale, main
from examples.studies.gym_cached_task import CachedSelect
from examples.studies.gym_config import PRESETS
from tests.cellenv.toy_bandit import toy_suite, toy_world


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(gym_report, "plot_curves", lambda *_: b"")  # it is drawn anew after every run
    monkeypatch.setattr(Steer, "tries", 4)
    return replace(PRESETS["smoke"], output_dir=tmp_path, contexts=40, curve_contexts=20, train_contexts=60)


def read(file):
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_runs_are_stored_with_the_precision_that_the_hardware_has(config, monkeypatch, native, precision):
    given = []
    monkeypatch.setattr(gym_benchmark, "has_native_bf16", lambda: native)
    monkeypatch.setattr(gym_benchmark, "World", lambda generator, data, precision="fp32": precision)
    monkeypatch.setattr(gym_benchmark, "benchmark", lambda worlds, config: given.append((worlds, config)))
    main(config)
    ((worlds, resolved),) = given
    assert config.precision == "auto" and resolved == replace(config, precision=precision)
    assert worlds == {"train": precision, "test": "fp32"}


def test_a_scale_is_measured_once_for_the_same_contexts(config, monkeypatch, capsys):
    measured, fit = [], Scale.fit

    def count(task, contexts):
        measured.append(len(contexts))
        return fit(task, contexts)

    world = toy_world()
    monkeypatch.setattr(Scale, "fit", count)
    for n in (6, 6, 5, 5):
        test = CachedSelect(Select(world), fixed_contexts(world.data, n))
        scale = load_or_fit_scale(test, config.output_dir)
        assert scale == fit(test, test.scenes)
    assert measured == [6, 5]
    assert capsys.readouterr().out.count("measuring it now") == 2


@pytest.mark.slow
def test_whole_benchmark(config):
    suite, folder = toy_suite(), config.output_dir
    worlds = {split: toy_world(suite=suite) for split in ("train", "test")}
    board = benchmark(worlds, config)
    assert board == (folder / "leaderboard.md").read_text()
    rows = read(folder / "leaderboard.csv")
    agents = {(row["task"], row["agent"]) for row in rows}
    common = {"oracle", "random", "best constant", "PPO"}
    assert agents == {("Select", a) for a in common | {"DQN"}} | {("Steer", a) for a in common | {"SAC", "best draft"}}
    for row in rows:
        assert float(row["low"]) <= float(row["score"]) <= float(row["high"])
        assert row["agent"] != "oracle" or float(row["score"]) == pytest.approx(1)
        assert row["agent"] != "random" or abs(float(row["score"])) < 0.5
    starts = {(p["task"], p["agent"], p["seed"]) for p in read(folder / "curves.csv") if p["steps"] == "0"}
    learners = [(task, agent) for task, agent in agents if agent in ("PPO", "DQN", "SAC")]
    assert starts == {(task, agent, seed) for task, agent in learners for seed in "01"}

    saved = {file: file.stat().st_mtime_ns for file in (folder / "runs").iterdir()}
    assert len(saved) == 2 * (1 + 3 * 2) + 1  # per task the constant, and three agents of two seeds; best draft
    stopped_in = next(iter(saved))
    stopped_in.unlink()
    assert benchmark(worlds, config) == board
    assert [file for file, then in saved.items() if file.stat().st_mtime_ns != then] == [stopped_in]
    with pytest.raises(ValueError, match="steps=64, now 65"):
        benchmark(worlds, replace(config, steps=65))
    scale = Scale.load(Select(worlds["test"]), fixed_contexts(worlds["test"].data, 40), folder / "scales.json")
    assert scale.score([0.0] * 40) < 1  # measured here, since none is stored for the toy world

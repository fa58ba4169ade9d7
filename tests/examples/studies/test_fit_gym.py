"""Measuring the scale of the benchmark, on a toy world."""

import json

import pytest

from cellenv.gym import Paint, Scale, Select, Steer
from cellenv.gym.score import fixed_contexts
from examples.studies.fit_gym import FitGymConfig, fit
from tests.cellenv.toy_bandit import toy_world


def test_scales_of_all_tasks_are_stored_and_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Steer, "tries", 4)
    world = toy_world()
    fit(world, FitGymConfig(output=tmp_path / "gym.json", contexts=5))
    printed = capsys.readouterr().out.splitlines()
    contexts = fixed_contexts(world.data, 5)
    for task in (Select(world), Steer(world), Paint(world)):
        scale = Scale.load(task, contexts, tmp_path / "gym.json")
        untouched, oracle = task.bounds(task.prepare(contexts))
        assert scale.untouched == pytest.approx(untouched.tolist(), abs=1e-4)
        assert scale.oracle == pytest.approx(oracle.tolist(), abs=1e-4)
        assert f"{task.name}: untouched {untouched.mean():.3f}, oracle {oracle.mean():.3f}" in printed
    assert len(json.loads((tmp_path / "gym.json").read_text())) == len(printed) == 3

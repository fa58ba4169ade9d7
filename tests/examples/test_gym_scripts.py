"""Measuring the scale and the throughput of the benchmark, on a toy world."""

import json

import pytest

from cellenv.gym import Paint, Scale, Select, Steer
from cellenv.gym.score import fixed_contexts


@pytest.fixture
def toys(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "tests" / "cellenv")
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import toy_bandit

    return toy_bandit


def test_scales_of_all_tasks_are_stored(toys, tmp_path, capsys, monkeypatch):
    import fit_gym

    monkeypatch.setattr(Steer, "tries", 4)
    world = toys.toy_world()
    fit_gym.fit(world, fit_gym.Config(output=tmp_path / "gym.json", contexts=5))
    contexts = fixed_contexts(world.data, 5)
    for task in (Select(world), Steer(world), Paint(world)):
        scale = Scale.load(task, contexts, tmp_path / "gym.json")
        untouched, oracle = task.bounds(task.prepare(contexts))
        assert scale.untouched == pytest.approx(untouched.tolist(), abs=1e-4)
        assert scale.oracle == pytest.approx(oracle.tolist(), abs=1e-4)
        assert f"{task.name}: untouched {untouched.mean():.3f}" in capsys.readouterr().out or task.name != "Select"
    assert len(json.loads((tmp_path / "gym.json").read_text())) == 3


def test_throughput_says_where_the_time_goes(toys):
    import gym_throughput

    world = gym_throughput.TimedWorld(toys.toy_generator(), toys.ToyCells(), toys.toy_suite())
    table = gym_throughput.measure(world, gym_throughput.Config(contexts=(1, 24), seconds=0.1))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "24"]
    for _, batch, separate, ratio, where in rows:
        assert float(ratio) == pytest.approx(float(batch) / float(separate), abs=0.02)
        shares = {part.split()[0]: float(part.split()[1].rstrip("%")) for part in where.split(", ")}
        assert set(shares) == {"network", "rewards", "contexts", "other"}
        assert sum(shares.values()) == pytest.approx(100, abs=2)
    assert float(rows[1][3]) > 1.5  # 24 in one batch are far faster than one by one

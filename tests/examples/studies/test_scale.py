"""The cost model of an iteration: its sums, what GPUs divide, and that it is compared with the trainer."""

import pytest

from examples.studies import scale
from examples.studies.scale import Parts, ScaleConfig, Size, iteration, least, memory_of, on_gpus, operations

PARTS = Parts(forward=1.0, backward=10.0, reward=100.0, context=1e3, noise=1e4, row=1e5, update=1e6)


def test_an_iteration_is_the_sum_of_its_parts():
    phases = iteration(PARTS, Size(groups=2, images=6, nfe=8, rows=12, old_and_ref=1.5))
    assert phases == {
        "rollout": 6 * 8,
        "rewards": 600,
        "train": 12 * 11.5,
        "noise and data": 2e3 + 6e4 + 12e5,
        "update": 1e6,
    }


def test_the_least_of_repeats_counts_and_the_first_call_does_not(monkeypatch):
    clock, costs = [0.0], iter([1.0, 5.0, 2.0, 4.0])

    def work():
        clock[0] += next(costs)

    monkeypatch.setattr(scale, "process_time", lambda: clock[0])
    assert least(work, 3) == 2.0


def test_operations_are_those_of_the_network():
    forward, backward, parameters = operations("embedded")
    assert parameters == 1_655_536 and forward / 1e9 == pytest.approx(0.302, abs=1e-3)
    assert backward / forward == pytest.approx(2.95, abs=0.01)


def test_gpus_share_groups_until_each_has_one(monkeypatch):
    monkeypatch.setattr(scale, "operations", lambda network: (10**12, 3 * 10**12, 10**9))
    config = ScaleConfig(teraflops=10.0, utilisation=0.5, cores=4, bandwidth=8.0)
    one, eight, most, more = (on_gpus(config, PARTS, gpus) for gpus in (1, 8, 48, 64))
    assert one["rollout"] == pytest.approx(48 * 24 * 10 * 0.2) and one["train"] == pytest.approx(48 * 24 * 2 * 0.2 * 5)
    assert one["rewards"] == pytest.approx(48 * 24 * 100 / 4) and one["sum of gradients"] == 0
    shared = ("rollout", "rewards", "train", "noise and data")
    assert all(eight[name] == pytest.approx(one[name] / 8) and more[name] == most[name] for name in shared)
    assert eight["sum of gradients"] == pytest.approx(2 * 4 * 7 / 8 / 8)


def test_iterations_of_the_trainer_are_measured(tmp_path, capsys):
    config = scale.PRESETS["smoke"]
    scale.main(ScaleConfig(**(vars(config) | {"output": tmp_path / "scale.md"})))
    text = (tmp_path / "scale.md").read_text()
    assert text in capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("| 8 | 1 | 2 |"))
    computed, measured = (float(cell) for cell in row.split("|")[4:6])
    assert computed > 0 and measured > 0


def test_memory_counted_without_computing_is_that_of_computing():
    counted = memory_of("embedded", 2)
    assert counted.states["theta"] == 4 * 1_655_536
    assert memory_of("embedded", 2, device="cpu") == counted

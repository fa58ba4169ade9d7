"""Timing of reward workers: the reward that stands for a slow segmenter, the table, and rewards that must be equal."""

import contextlib
import time
from types import SimpleNamespace

import pytest
import torch

from examples.studies import reward_workers
from examples.studies.reward_workers import Training, WorkersConfig, measure, slow_rewards
from rewards import configure


def test_the_sleeping_reward_takes_its_time_and_adds_nothing(tmp_path):
    config = slow_rewards(WorkersConfig(milliseconds=20.0), tmp_path)
    *_, spec = configure(config.terms)
    start = time.perf_counter()
    assert spec.build(None).function(torch.zeros(5, 3, 4, 4)).tolist() == 5 * [0.0]
    assert 0.1 <= time.perf_counter() - start < 1


class Stub(Training):
    """Takes a second for each worker, and 100 in the first iteration; all rewards are `offset` times its workers."""

    offset = 0.0

    def __init__(self, config, accelerator, data):
        self.workers, self.seconds = config.reward.workers, []
        self.components = SimpleNamespace(data=data, scorer=contextlib.nullcontext())

    def iterate(self, iteration):
        seconds = 1.0 + self.workers if iteration else 100.0
        self.seconds.append({"rollout": 0.25, "rewards": 0.5, "train": 0.125, "total": seconds})
        return torch.full((4, 1), self.offset * self.workers)


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(reward_workers, "Training", Stub)
    monkeypatch.setattr(reward_workers, "start_accelerator", lambda threads: None)
    return Stub


def test_the_table_has_medians_without_the_first_iteration(stub):
    rows = [line.split(" | ") for line in measure(WorkersConfig(workers=(0, 2))).splitlines()[2:]]
    assert [row[-2:] for row in rows] == [["1.0", "1.00 |"], ["3.0", "3.00 |"]]
    assert rows[1][:4] == ["| 2", "0.2", "0.5", "0.1"]


def test_rewards_that_depend_on_the_workers_are_an_error(stub, monkeypatch):
    monkeypatch.setattr(stub, "offset", 1e-7)
    with pytest.raises(RuntimeError, match="the rewards of iteration 0 depend on the number of workers"):
        measure(WorkersConfig())

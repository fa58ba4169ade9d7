"""Throughput of the environments: the parts of a step, on a clock that each part moves by a known time."""

from collections import defaultdict

import pytest

from algorithms import clock as clock_module
from examples.studies.gym_throughput import GymThroughputConfig, TimedWorld, measure, steps_per_second
from tests.cellenv.toy_bandit import toy_generator, toy_suite
from tests.cellenv.toy_cells import ToyCells


@pytest.fixture
def world():
    return TimedWorld(toy_generator(), ToyCells(), toy_suite())


class OneSecondEnv:
    """A step takes a second, of which the network has a quarter."""

    num_envs = 6

    def __init__(self, world, time):
        self.world, self.time, self.steps = world, time, 0
        self.action_space = self

    def seed(self, seed): ...

    def sample(self): ...

    def reset(self, seed): ...

    def step(self, action):
        self.steps += 1
        self.time["now"] += 0.75
        with self.world.clock("network"):
            self.time["now"] += 0.25


def test_rate_and_shares_leave_out_the_first_step(world, monkeypatch):
    time = defaultdict(float)
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: time["now"])
    env = OneSecondEnv(world, time)
    rate, shares = steps_per_second(env, world.clock, seconds=3.0)
    assert env.steps == 1 + 3 and rate == pytest.approx(6.0)
    assert shares == pytest.approx({"network": 0.25, "other": 0.75})


def test_the_table_has_a_row_for_each_number_of_contexts(world):
    table = measure(world, GymThroughputConfig(contexts=(1, 3), seconds=0.0))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "3"]
    for _, batched, separate, ratio, parts in rows:
        assert float(ratio) == pytest.approx(float(batched) / float(separate), abs=0.02)
        shares = {part.split()[0]: float(part.split()[1].rstrip("%")) for part in parts.split(", ")}
        assert set(shares) == {"network", "rewards", "contexts", "other"}
        assert sum(shares.values()) == pytest.approx(100, abs=2)

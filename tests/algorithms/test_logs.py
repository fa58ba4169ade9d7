"""Run logs: rollout metrics, times, flattened configs, averages over micro-batches, resuming log.jsonl."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict

from algorithms.advantages import identity, normalised_rewards
from algorithms.logs import (
    RunLogger,
    flatten_config,
    mean_by_name,
    mean_time_per_phase,
    pixel_diversity,
    read_log,
    reduce_metrics,
    rollout_metrics,
    time_metrics,
)

SINGLE_PROCESS = SimpleNamespace(
    is_main_process=True, log=lambda *_, **__: None, reduce=lambda x, _: x, gather=identity, trackers=[]
)


def test_rollout_metrics_leave_nan_out():
    reward = torch.tensor([[1.0], [3.0], [float("nan")], [2.0]])
    step = {"reward": reward, "rewards": {"size": -reward}}
    rollout = TensorDict({"group": torch.tensor([0, 0, 1, 1]), "action": torch.rand(4, 3, 2, 2), "next": step}, [4])
    metrics = rollout_metrics(rollout, identity)
    assert metrics["reward"] == 2 and metrics["rewards/size/mean"] == -2
    assert metrics["reward_std"] == pytest.approx((2 / 3) ** 0.5)
    assert metrics["frac_reward_nan"] == 0.25 and metrics["frac_reward_zero_std"] == 0.5


def test_pixel_diversity_is_the_distance_of_two_images_of_a_group():
    images = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    group = torch.tensor([5, 2, 5, 5, 2, 2, 2])
    images[group == 2] += 100  # between groups there may be any distance
    square = (images[:, None] - images[None]).square().mean((2, 3, 4))  # (7, 7)
    within = [square[group == g][:, group == g].sum() / (n * (n - 1)) for g, n in ((5, 3), (2, 4))]
    weighted = (2 * within[0] + 3 * within[1]) / 5  # by degrees of freedom
    assert pixel_diversity(images, group, identity) == pytest.approx(weighted.sqrt().item(), rel=1e-4)
    alike = images[group.argsort()[::4]].repeat_interleave(3, 0)
    assert pixel_diversity(alike, torch.tensor([0, 0, 0, 1, 1, 1]), identity) == pytest.approx(0, abs=1e-4)


def test_pixel_diversity_is_that_of_all_ranks():
    images, group = torch.rand(6, 1, 2, 2), torch.tensor([0, 0, 0, 1, 1, 1])
    ranks = []

    def gather(x):  # what the other rank, asked before, gave at this point
        ranks.append(x)
        return torch.cat([x, ranks[len(ranks) - 3]]) if len(ranks) > 2 else x

    whole = pixel_diversity(images, group, identity)
    pixel_diversity(images[:3], group[:3], gather)
    assert pixel_diversity(images[3:], group[3:], gather) == pytest.approx(whole, rel=1e-5)


def test_time_outside_is_neither_rollout_nor_training():
    metrics = time_metrics({"rollout": 0.5, "train": 1.0, "rewards": 0.25, "other": 0.25, "total": 2.0})
    assert metrics["time/rewards"] == 0.25 and metrics["time/outside"] == 0.25


def test_mean_time_per_phase():
    log = [
        {"iteration": 0, "reward": 1.0} | time_metrics({"rollout": 1.0, "train": 2.0, "other": 1.0, "total": 4.0}),
        {"iteration": 1, "reward": 1.0} | time_metrics({"rollout": 3.0, "train": 2.0, "other": 3.0, "total": 8.0}),
    ]
    expected = {"rollout": 2.0, "train": 2.0, "other": 2.0, "total": 6.0, "outside": pytest.approx(1 / 3)}
    assert mean_time_per_phase(log) == expected
    assert mean_time_per_phase([]) == {}  # a run that had finished goes on without its log


def test_the_mean_of_a_key_counts_lines_without_it_as_zero():
    log = [{"reward": 1.0, "share/a": 0.75}, {"share/a": 0.25, "share/b": 0.75}]
    assert mean_by_name(log, "share/") == {"a": 0.5, "b": 0.375}
    assert mean_by_name([{"reward": 1}], "share/") == {}


def test_lines_that_are_no_iterations_are_left_out(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []
    bad = b'[1]\n{"reward": 1}\n{"iteration": 1, "reward": "a"}\n\xff\n{"iteration": 2, "rew'
    (tmp_path / "log.jsonl").write_bytes(b'{"iteration": 0, "reward": 0.5}\n' + bad)
    assert read_log(tmp_path / "log.jsonl") == [{"iteration": 0, "reward": 0.5}]


def test_rollout_metrics_have_the_shares_of_normalised_rewards():
    step = {"reward": torch.arange(4.0)[:, None], "rewards": {"a": torch.arange(4.0)[:, None]}}
    rollout = TensorDict({"group": torch.tensor([0, 0, 1, 1]), "action": torch.rand(4, 3, 2, 2), "next": step}, [4])
    assert not any(key.startswith("signal_share") for key in rollout_metrics(rollout, identity))
    normalised_rewards(rollout, 0, weights={"a": 3.0})
    assert rollout_metrics(rollout, identity)["signal_share/a"] == 1


def test_a_group_teaches_where_one_of_its_rewards_is_undefined():
    a, b = torch.tensor([[0.1], [0.7], [0.2], [0.2]]), torch.tensor([[float("nan")], [float("nan")], [0.3], [0.3]])
    step = {"reward": a + b, "rewards": {"a": a, "b": b}}
    rollout = TensorDict({"group": torch.tensor([0, 0, 1, 1]), "action": torch.rand(4, 3, 2, 2), "next": step}, [4])
    assert rollout_metrics(rollout, identity)["frac_reward_zero_std"] == 1  # if the total is learned from
    normalised_rewards(rollout, 0, weights={"a": 3.0, "b": 1.0})
    assert rollout_metrics(rollout, identity)["frac_reward_zero_std"] == 0.5
    rollout["signal"] = {"a": torch.tensor([0.1, 0.1, 0.7, 0.7], dtype=torch.float64)}  # equal, and not 0
    assert rollout_metrics(rollout, identity)["frac_reward_zero_std"] == 1


def test_flatten_config_joins_names_with_dots_and_keeps_what_trackers_take():
    config = {
        "seed": 0,
        "optim": {"learning_rate": 1e-3, "schedule": {"name": "constant"}},
        "resume": False,
        "output_dir": Path("runs/a"),
        "window": (0, 2),
        "judge": None,
    }
    flat = flatten_config(config)
    assert flat == {
        "seed": 0,
        "optim.learning_rate": 1e-3,
        "optim.schedule.name": "constant",
        "resume": False,
        "output_dir": "runs/a",
        "window": "(0, 2)",
        "judge": "None",
    }
    assert flat["resume"] is False


def test_metrics_weigh_micro_batches_by_their_rows():
    parts = [
        (3, {"kl": torch.tensor(1.0), "drift": torch.tensor(0.0)}),
        (1, {"kl": torch.tensor(5.0), "drift": torch.tensor(4.0)}),
    ]
    assert reduce_metrics(parts, SINGLE_PROCESS) == {"kl": 2.0, "drift": 1.0}


def test_of_what_is_largest_the_largest_is_logged():
    parts = [(3, {"max_ratio": torch.tensor(1.0), "kl": torch.tensor(1.0)})]
    parts += [(1, {"max_ratio": torch.tensor(2.0), "kl": torch.tensor(5.0)})]
    assert reduce_metrics(parts, SINGLE_PROCESS) == {"max_ratio": 2.0, "kl": 2.0}
    two = SimpleNamespace(reduce=SINGLE_PROCESS.reduce, gather=lambda x: torch.cat([x, x + 1]))
    assert reduce_metrics(parts, two)["max_ratio"] == 3.0  # of another process


def test_a_resumed_log_drops_iterations_that_are_repeated(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"iteration": 0}\n{"iteration": 1}\n{"iteration": 2}\n{"itera')
    logger = RunLogger(SINGLE_PROCESS, tmp_path, start=2)
    bar = logger.progress_bar(2, 4)
    logger.log_metrics(2, {"reward": 0.5, "kl": float("nan")}, bar)
    bar.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == [{"iteration": 0}, {"iteration": 1}, {"iteration": 2, "reward": 0.5}]


def test_a_new_run_starts_an_empty_log(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"iteration": 0}\n')
    RunLogger(SINGLE_PROCESS, tmp_path, start=0)
    assert (tmp_path / "log.jsonl").read_text() == ""

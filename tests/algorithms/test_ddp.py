"""Two gloo processes on a CPU do what one does on the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nft_toys import toy_gradient, toy_run

from algorithms import launch
from algorithms.launch import start_accelerator

pytestmark = pytest.mark.slow  # two processes start
TOYS = Path(__file__).with_name("nft_toys.py")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The results of both ranks, and where they were written."""
    folder = tmp_path_factory.mktemp("two")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        TOYS,
        folder,
        "0",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)], folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    accelerator = start_accelerator(threads=1)
    return toy_gradient(accelerator), toy_run(folder, accelerator), folder


def test_two_processes_have_the_gradient_of_one(one, two):
    for rank in two[0]:
        assert rank["ranks"] == 2
        error = (rank["gradient"] - one[0]).norm() / one[0].norm()
        assert error < 1e-5


def test_theta_old_and_ref_are_the_same_on_both_ranks(two):
    mine, its = (rank["weights"] for rank in two[0])
    assert {name.split(".")[0] for name in mine} == {"model", "model_old", "model_ref"}
    for name in mine:
        assert torch.equal(mine[name], its[name]), name


def test_two_processes_train_as_one(one, two):
    weights = one[1].state_dict()
    for name, value in two[0][0]["weights"].items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)
    assert not torch.equal(weights["model.outer.weight"], weights["model_ref.outer.weight"])


def test_two_processes_log_what_one_does(one, two):
    lines = [[json.loads(line) for line in (x / "log.jsonl").read_text().splitlines()] for x in (one[2], two[1])]
    assert len(lines[0]) == len(lines[1]) == 6
    for mine, its in zip(*lines, strict=True):
        for key in ("reward", "reward_std", "rewards/bright/mean", "loss_nft", "loss_kl", "grad_norm", "drift"):
            assert mine[key] == pytest.approx(its[key], rel=2e-3, abs=1e-6), key


def test_ranks_that_believe_to_be_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(launch, "Accelerator", lambda **_: SimpleNamespace(num_processes=1))
    with pytest.raises(ValueError, match="2 processes were started, but each believes that there are 1"):
        start_accelerator(threads=1)

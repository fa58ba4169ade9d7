"""Trainings and their launchers: one that is ended with it, and one that two agents start as two nodes would."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from algorithms import checkpoint
from algorithms.logs import read_log
from tests.algorithms.torchrun import ENVIRONMENT

pytestmark = pytest.mark.slow  # starts launchers

LAUNCHERS = {
    "accelerate": ["accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1", "-m"],
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "1", "-m"],
}


@pytest.mark.parametrize(
    ("launcher", "number"),
    [("accelerate", signal.SIGTERM), ("torchrun", signal.SIGTERM), ("torchrun", signal.SIGKILL)],
)
def test_the_worker_saves_and_ends_with_its_launcher(tmp_path, launcher, number):
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "tests.algorithms.nft_toys", str(tmp_path)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    log, end = tmp_path / "log.jsonl", time.monotonic() + 300
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        while not (log.exists() and log.read_text()) and time.monotonic() < end:
            time.sleep(0.2)
        process.send_signal(number)
        said = process.stderr.read()  # until the worker, which has the same stderr, has ended
    assert "SIGTERM: stopped after" in said
    lines = log.read_text().splitlines()
    assert checkpoint.list_checkpoints(tmp_path / "checkpoints")[-1].name == f"{len(lines):06d}.pt"


def on_two_nodes(folders, *args):
    """The smoke run under an agent for each folder, which meet on this machine; that of the first is process 0."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{found.getsockname()[1]}"]
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", *meeting, "--local_addr", "127.0.0.1"]
    smoke = ["-m", "algorithms.recipes.nft", "--preset", "smoke", "--eval.contexts", "4", *args, "--output-dir"]
    agents = [
        subprocess.Popen([*agent, *smoke, folder], env=os.environ | ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        for folder in folders  # ranks are in the order of process ids
    ]
    said = [agent.communicate(timeout=600)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said


def test_two_nodes_with_a_folder_in_common_go_on_with_one_each(tmp_path):
    """Resumed in separate folders, process 0 reads and writes for both."""
    shared, other = tmp_path / "shared", tmp_path / "other"
    on_two_nodes([shared, shared])
    assert [line["iteration"] for line in read_log(shared / "log.jsonl")] == [0, 1]
    on_two_nodes([shared, other], "--resume", "--iterations", "3")
    assert [line["iteration"] for line in read_log(shared / "log.jsonl")] == [0, 1, 2]
    assert (shared / "evaluation.json").is_file() and not other.exists()

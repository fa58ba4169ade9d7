"""What a training does when its launcher is ended: it saves and ends too."""

import os
import signal
import subprocess
import sys
import time

import pytest

from algorithms import checkpoint

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

"""A worker ends with its trainer, even one that was killed while the worker was busy."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TRAINER = """
import os, signal
from functools import partial
from algorithms.workers.pool import WorkerPool
from algorithms.workers.process import ProcessChannel
from tests.algorithms.workers.worker_toys import batch, hang, toy_steps

if __name__ == "__main__":
    pool = WorkerPool(partial(ProcessChannel, toy_steps(hang=hang)), 1, inputs={"action"}, timeout=600.0)
    pool.submit(batch(), 0)
    while pool.workers[0].channel is None or not hasattr(pool.workers[0], "running"):
        pass
    os.kill(pool.workers[0].channel.process.pid, signal.SIGTERM)  # ignored: it is the trainer's to answer
    print(pool.workers[0].channel.process.pid, flush=True)
    signal.pause()
"""


def alive(pid):
    """Whether a process runs; a dead one that nobody waits for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_busy_worker_does_not_outlive_a_killed_trainer(tmp_path):
    (tmp_path / "trainer.py").write_text(TRAINER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, tmp_path / "trainer.py"], stdout=subprocess.PIPE, env=environment
    ) as trainer:
        worker = int(trainer.stdout.readline())
        time.sleep(0.5)
        assert alive(worker)
        trainer.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(worker)

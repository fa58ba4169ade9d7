"""Workers in processes: they equal this process, are replaced when killed, and use one thread."""

import logging
import os
import signal
from functools import partial

import pytest
import torch

from algorithms.workers.pool import WorkerPool
from algorithms.workers.process import ProcessChannel
from algorithms.workers.remote import WorkerTimeout
from tests.algorithms.workers.worker_toys import ToySteps, batch, bright, end_once, process, toy_steps


@pytest.fixture
def pool(tmp_path):
    """One worker whose second step kills it once."""
    build = toy_steps(bright=bright, killed=partial(end_once, tmp_path / "killed"), process=process)
    with WorkerPool(partial(ProcessChannel, build), 1, inputs={"action"}, timeout=300.0) as pool:
        yield pool


def test_a_worker_killed_in_a_batch_is_replaced_and_nothing_changes(pool, caplog):
    before = os.environ.get("OMP_NUM_THREADS")
    with caplog.at_level(logging.WARNING):
        futures = [pool.submit(batch(start), 5) for start in range(3)]
        found = [future.result(timeout=300)["rewards"] for future in futures]
    local = ToySteps({"bright": bright})
    for start, rewards in enumerate(found):
        local.begin(batch(start))
        local.run("bright")
        assert torch.equal(rewards["bright"], local.scores["bright"]) and rewards["killed"].equal(rewards["bright"])
    assert "'killed' in iteration 5, samples 0 to 5: the process ended with exit code -9" in caplog.text
    pids, *threads = found[0]["process"].reshape(2, 3)[0].tolist()
    assert pids != os.getpid() and threads == [1, 1] and os.environ.get("OMP_NUM_THREADS") == before
    assert pool.workers[0].channel.process.pid == pids
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids), 0)


def test_a_worker_that_reads_nothing_is_ended_at_the_timeout():
    """A full pipe would keep the sender for ever."""
    channel = ProcessChannel(toy_steps(bright=bright))
    channel.call("names", timeout=300.0)
    os.kill(channel.process.pid, signal.SIGSTOP)
    with pytest.raises(WorkerTimeout, match=r"took no batch in 0\.5 s"):
        channel.call("begin", bytes(2**24), timeout=0.5)
    channel.close()

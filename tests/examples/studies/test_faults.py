"""The study of faults: its jobs, and how their processes are found. Its runs are too long for a test."""

import multiprocessing
import os
import time

import pytest

from algorithms.command_line import parse
from examples.studies.faults import JOBS, STEPS, FaultsConfig, Trial, ranks, run_until, workers_of


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_jobs_are_small_and_save_before_they_end(job):
    config = parse(job.module.PRESETS, None, job.words).config
    assert config.save_every < STEPS == (config.iterations if job.name.startswith("nft") else config.steps)
    assert job.name in FaultsConfig().jobs


def test_processes_of_a_run_have_a_rank_each_and_one_address():
    first, second = ranks(2)
    assert (first.pop("RANK"), first.pop("LOCAL_RANK"), second.pop("RANK"), second.pop("LOCAL_RANK")) == (*"0011",)
    assert first == second and first["WORLD_SIZE"] == "2"


def test_workers_are_the_processes_that_were_spawned():
    assert workers_of(os.getpid()) == []
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    for _ in range(1000):
        if found := workers_of(os.getpid()):  # at first it is a copy of this process
            break
        time.sleep(0.01)
    assert found == [process.pid]
    process.kill()
    process.join()


def test_a_process_that_does_not_end_is_killed_and_named(tmp_path):
    trial = Trial(JOBS[0], tmp_path / "run")
    trial.processes = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))]
    trial.processes[0].start()
    assert trial.wait(0.05) == ["hung"]


def compute(seconds):
    while time.process_time() < seconds:
        pass


def test_a_moment_is_processor_time_and_a_run_that_ended_is_no_longer_waited_for():
    fork = multiprocessing.get_context("fork")
    working, ending = (fork.Process(target=compute, args=(seconds,), daemon=True) for seconds in (60, 0.1))
    working.start()
    assert 0.2 <= run_until(working, 0.2) < 60 and working.exitcode is None
    working.kill()
    ending.start()
    run_until(ending, 60)
    assert ending.exitcode == 0

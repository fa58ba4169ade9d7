"""A pool of workers in stand-ins for processes: order, lost workers, failures, and what is given up."""

import logging
import threading

import pytest
import torch

from algorithms.workers.pool import WorkerPool
from algorithms.workers.remote import StepError, WorkerDied, WorkerSteps, WorkerTimeout
from algorithms.workers.scorer import RewardError
from tests.algorithms.workers.worker_toys import batch, bright, fail, toy_steps


class Stub:
    """A channel to a worker in this process. `faults` are raised, one a call of a step with this name, over all."""

    def __init__(self, build, faults):
        self.worker, self.faults, self.closed = WorkerSteps(build), faults, False

    def call(self, method, *args, timeout):
        assert not self.closed
        step = args[0] if method == "run" else method
        if (fault := self.faults.get(step)) and (error := fault.pop(0)):
            raise error
        try:
            return getattr(self.worker, method)(*args)
        except ZeroDivisionError as error:
            raise StepError(str(error)) from error

    def close(self):
        self.closed = True


@pytest.fixture
def pool(monkeypatch):
    """Return a function from faults by step, on_failure and functions by step to a pool; its channels are in `made`."""
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    pools = []

    def make(faults=None, on_failure="raise", workers=1, **functions):
        made = []
        build = toy_steps(**functions or {"bright": bright})

        def connect():
            made.append(Stub(build, faults or {}))
            return made[-1]

        pools.append(WorkerPool(connect, workers, inputs={"action"}, timeout=5.0, on_failure=on_failure))
        pools[-1].made = made
        return pools[-1]

    yield make
    for one in pools:
        one.close()


def rewards(future):
    return future.result(timeout=10)["reward"].flatten()


def test_every_batch_gets_its_own_scores_whoever_finishes_first(pool):
    entered = threading.Barrier(2, timeout=10)

    def meet(images):
        if images.mean() < 1.5:  # two workers are in the first two batches at once
            entered.wait()
        return bright(images)

    scorer = pool(workers=2, meet=meet)
    futures = [scorer.submit(batch(start), 0) for start in range(4)]
    for start, future in enumerate(futures):
        torch.testing.assert_close(rewards(future), batch(start)["action"].flatten().double())
    assert len(scorer.made) == 2


def test_the_inputs_alone_reach_the_worker(pool):
    scorer = pool()
    scorer.submit(batch(), 0).result(timeout=10)
    assert list(scorer.made[0].worker.steps.td.keys()) == ["action"]


@pytest.mark.parametrize("step", ["names", "begin", "bright", "finish"])
@pytest.mark.parametrize("losses", [1, 2])
def test_a_batch_is_repeated_when_its_worker_is_lost(pool, caplog, step, losses):
    scorer = pool({step: [*losses * [WorkerDied("killed")], None]})
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(rewards(scorer.submit(batch(), 7)), batch()["action"].flatten().double())
    assert len(scorer.made) == losses + 1 and [stub.closed for stub in scorer.made] == losses * [True] + [False]
    assert "in iteration 7, samples 0 to 5: killed" in caplog.text


@pytest.mark.parametrize("step", ["names", "begin", "bright", "finish"])
def test_it_is_given_up_after_three_losses_there(pool, step):
    scorer = pool({step: 3 * [WorkerDied("killed")] + [None]})
    with pytest.raises(RewardError, match=r"in iteration 7, samples 0 to 5: killed") as caught:
        rewards(scorer.submit(batch(), 7))
    assert ("'bright' was given up" in str(caught.value)) == (step == "bright") and len(scorer.made) == 3


@pytest.mark.parametrize(
    ("faults", "workers"), [([WorkerTimeout("no answer after 5 s")], 2), (3 * [WorkerDied("killed")], 4)]
)
def test_a_reward_that_hangs_or_kills_is_nan_on_request_and_no_other(pool, faults, workers):
    scorer = pool({"bad": [*faults]}, on_failure="nan", good=bright, bad=bright)
    scored = scorer.submit(batch(), 0).result(timeout=10)["rewards"]
    assert scored["bad"].isnan().all() and scored["good"].isfinite().all() and len(scorer.made) == workers


@pytest.mark.parametrize("elsewhere", ["names", "good"])
def test_a_loss_counts_where_it_happened(pool, elsewhere):
    faults = {elsewhere: [*2 * [WorkerDied("killed")]], "other": [WorkerDied("killed")]}
    scorer = pool(faults, on_failure="nan", good=bright, other=bright)
    scored = scorer.submit(batch(), 0).result(timeout=10)["rewards"]
    assert scored["good"].isfinite().all() and scored["other"].isfinite().all() and len(scorer.made) == 4


def test_a_reward_that_hangs_is_named(pool):
    scorer = pool({"slow": [WorkerTimeout("no answer after 5 s")]}, bright=bright, slow=bright)
    with pytest.raises(RewardError, match=r"'slow' was given up in iteration 2, samples 9 to 14: no answer after 5 s"):
        rewards(scorer.submit(batch(9), 2))


def test_a_reward_that_raises_keeps_its_worker(pool):
    scorer = pool(on_failure="nan", broken=fail, bright=bright)
    for _ in range(2):
        scored = scorer.submit(batch(), 0).result(timeout=10)["rewards"]
        assert scored["broken"].isnan().all() and scored["bright"].isfinite().all()
    assert len(scorer.made) == 1
    with pytest.raises(RewardError, match=r"'broken' failed in iteration 2, samples 0 to 5: of the toy"):
        rewards(pool(broken=fail).submit(batch(), 2))


def test_a_worker_that_cannot_start_says_why(pool):
    scorer = pool({"names": [StepError("no such weights")]})
    with pytest.raises(RewardError, match=r"a reward worker failed in iteration 0, .* no such weights"):
        rewards(scorer.submit(batch(), 0))


def test_after_a_worker_that_could_not_start_the_next_batch_tries_another(pool):
    scorer = pool({"names": [StepError("no such weights"), None]})
    with pytest.raises(RewardError, match="no such weights"):
        rewards(scorer.submit(batch(), 0))
    torch.testing.assert_close(rewards(scorer.submit(batch(), 1)), batch()["action"].flatten().double())
    assert [stub.closed for stub in scorer.made] == [True, False]

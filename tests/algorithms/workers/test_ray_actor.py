"""Workers as Ray actors, on a cluster that the test starts: they equal this process and are replaced when killed."""

from functools import partial

import pytest

ray = pytest.importorskip("ray")

# ruff: noqa: E402
import torch

from algorithms.workers.pool import WorkerPool
from algorithms.workers.ray_actor import RayChannel, start_ray
from algorithms.workers.scorer import RewardError
from tests.algorithms.workers.worker_toys import batch, bright, end_once, fail, hang, toy_steps

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module", autouse=True)
def cluster():
    start_ray("local", 1)
    yield
    ray.shutdown()


def pool(timeout=300.0, **functions):
    return WorkerPool(partial(RayChannel, toy_steps(**functions)), 1, inputs={"action"}, timeout=timeout)


def test_an_actor_killed_in_a_batch_is_replaced_and_nothing_changes(tmp_path):
    with pool(bright=bright, killed=partial(end_once, tmp_path / "killed")) as scorer:
        futures = [scorer.submit(batch(start), 5) for start in range(3)]
        for start, future in enumerate(futures):
            rewards = future.result(timeout=300)["rewards"]
            expected = bright(batch(start)["action"]).double()[:, None]
            assert torch.equal(rewards["bright"], expected) and torch.equal(rewards["killed"], expected)


@pytest.mark.parametrize(("function", "timeout", "message"), [(fail, 300.0, "of the toy"), (hang, 1.0, "no answer")])
def test_a_reward_that_fails_or_hangs_is_named(function, timeout, message):
    with pool(timeout, bad=function) as scorer, pytest.raises(RewardError, match=r"'bad' .* iteration 2") as caught:
        scorer.submit(batch(), 2).result(timeout=300)
    assert message in str(caught.value)

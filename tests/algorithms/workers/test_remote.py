"""Steps behind a channel equal the steps themselves, and only arrays, names and numbers travel."""

import numpy as np
import pytest
import torch

from algorithms.workers.remote import RemoteSteps, StepError, WorkerSteps, as_arrays, as_tensors
from tests.algorithms.workers.worker_toys import ToySteps, batch, bright, fail, toy_steps


class Direct:
    """A channel to a worker in this process that records what travels."""

    def __init__(self, build):
        threads = torch.get_num_threads()
        self.worker, self.seen = WorkerSteps(build), []
        self.threads = torch.get_num_threads()
        torch.set_num_threads(threads)

    def call(self, method, *args, timeout):
        try:
            answer = getattr(self.worker, method)(*args)
        except ZeroDivisionError as error:
            raise StepError(str(error)) from error
        self.seen += [*args, answer]
        return answer


def test_remote_steps_equal_local_ones():
    channel = Direct(toy_steps(bright=bright, broken=fail, twice=bright))
    steps, local = RemoteSteps(channel, 5.0), ToySteps({"bright": bright, "twice": bright})
    for one in (steps, local):
        one.begin(batch())
        one.run("bright")
    with pytest.raises(StepError, match="of the toy"):
        steps.run("broken")
    for one in (steps, local):
        one.skip("twice")
    assert steps.names == ("bright", "broken", "twice") and channel.threads == 1
    found, expected = steps.finish(), local.finish()
    assert torch.equal(found["rewards", "bright"], expected["rewards", "bright"])
    assert found["rewards", "twice"].isnan().all() and found["reward"].isnan().all()
    arrays = [value for value in channel.seen if isinstance(value, dict)]
    assert len(arrays) == 2 and all(type(array) is np.ndarray for one in arrays for array in one.values())
    assert all(value is None or isinstance(value, str | tuple | dict) for value in channel.seen)


def test_arrays_keep_keys_types_and_values():
    td = batch().set(("a", "b"), torch.arange(6, dtype=torch.int32))
    back = as_tensors(as_arrays(td))
    assert set(back.keys(True, True)) == set(td.keys(True, True)) and back.batch_size == td.batch_size
    assert all(torch.equal(back[key], td[key]) and back[key].dtype == td[key].dtype for key in td.keys(True, True))

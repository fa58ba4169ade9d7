"""Reward steps behind a channel to a worker. Only arrays and names travel, and tracebacks as text. B batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from numpy.typing import NDArray
from tensordict import NestedKey, TensorDict, TensorDictBase

from algorithms.workers.scorer import Steps

START_SECONDS = 600.0  # after which a worker that has not loaded its models is given up

Arrays: TypeAlias = dict[NestedKey, NDArray[Any]]  # rows (B, ...)


class WorkerDied(Exception):
    """The worker has ended, or cannot be reached."""


class WorkerTimeout(Exception):
    """The worker has not answered in time."""


class StepError(Exception):
    """The worker answered with an error, whose traceback is the message."""


class Channel(Protocol):
    """Calls methods of the `WorkerSteps` of one worker, and ends it."""

    def call(self, method: str, *args: Any, timeout: float) -> Any:
        """What the method returns.

        Raises:
            StepError: the method raised an error.
            WorkerDied: the worker ended before it answered.
            WorkerTimeout: it took more seconds than `timeout`.
        """

    def close(self) -> None:
        """End the worker at once, whatever it does."""


class WorkerSteps:
    """The `Steps` inside a worker, whose batches are arrays. The worker has one thread.

    Args:
        build: makes the steps; it comes from the trainer's own code, by name.
    """

    def __init__(self, build: Callable[[], Steps]):
        torch.set_num_threads(1)
        self.steps = build()

    def names(self) -> Sequence[str]:
        return self.steps.names

    def begin(self, arrays: Arrays) -> None:
        self.steps.begin(as_tensors(arrays))

    def run(self, name: str) -> None:
        self.steps.run(name)

    def skip(self, name: str) -> None:
        self.steps.skip(name)

    def finish(self) -> Arrays:
        return as_arrays(self.steps.finish())


class RemoteSteps:
    """The steps of a worker, as `Steps`.

    Args:
        channel: to the worker.
        timeout: seconds that a step may take.

    Every method raises what `Channel.call` does.
    """

    def __init__(self, channel: Channel, timeout: float):
        self.channel, self.timeout = channel, timeout
        self.names: Sequence[str] = channel.call("names", timeout=START_SECONDS)

    def begin(self, td: TensorDictBase) -> None:
        self.channel.call("begin", as_arrays(td), timeout=self.timeout)

    def run(self, name: str) -> None:
        self.channel.call("run", name, timeout=self.timeout)

    def skip(self, name: str) -> None:
        self.channel.call("skip", name, timeout=self.timeout)

    def finish(self) -> TensorDictBase:
        return as_tensors(self.channel.call("finish", timeout=self.timeout))


def as_arrays(td: TensorDictBase) -> Arrays:
    """All tensors of a TensorDict, (B, ...) each."""
    return {key: value.cpu().numpy() for key, value in td.items(include_nested=True, leaves_only=True)}


def as_tensors(arrays: Mapping[NestedKey, NDArray[Any]]) -> TensorDictBase:
    """TensorDict of batch size [B]."""
    return TensorDict({key: torch.tensor(value) for key, value in arrays.items()}, [len(next(iter(arrays.values())))])

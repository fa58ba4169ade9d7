"""A worker as an actor of a Ray cluster, on this machine or on others, which need this package installed."""

from collections.abc import Callable
from typing import Any

import ray

from algorithms.workers.remote import StepError, WorkerDied, WorkerSteps, WorkerTimeout
from algorithms.workers.scorer import Steps


def start_ray(address: str, workers: int) -> None:
    """Connect to a cluster, or start one of this many CPUs on this machine if the address is "local"."""
    if ray.is_initialized():
        return
    if address == "local":
        ray.init(address="local", num_cpus=workers, include_dashboard=False)
    else:
        ray.init(address=address)


class RayChannel:
    """The channel to a new actor, which has a CPU.

    Args:
        build: makes the steps in the actor; pickled by name.
        gpu: whether the actor has a GPU.
    """

    def __init__(self, build: Callable[[], Steps], *, gpu: bool = False):
        self.actor: Any = ray.remote(num_cpus=1, num_gpus=int(gpu))(WorkerSteps).remote(build)

    def call(self, method: str, *args: Any, timeout: float) -> Any:
        """See `Channel`."""
        try:
            return ray.get(getattr(self.actor, method).remote(*args), timeout=timeout)
        except ray.exceptions.GetTimeoutError as late:
            raise WorkerTimeout(f"no answer after {timeout:g} s") from late
        except ray.exceptions.RayActorError as lost:
            raise WorkerDied(str(lost)) from lost
        except ray.exceptions.RayTaskError as error:
            raise StepError(str(error)) from error
        except ray.exceptions.RayError as lost:  # of its memory, its node, its answer
            raise WorkerDied(str(lost)) from lost

    def close(self) -> None:
        """See `Channel`."""
        ray.kill(self.actor)

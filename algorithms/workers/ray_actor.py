"""A worker as an actor of a Ray cluster, on this machine or on others, which need this package installed."""

import logging
from collections.abc import Callable
from typing import Any

import ray
from accelerate import PartialState

from algorithms.workers.remote import StepError, WorkerDied, WorkerSteps, WorkerTimeout
from algorithms.workers.scorer import Steps

logger = logging.getLogger(__name__)


def start_ray(address: str, workers: int, *, gpu: bool = False) -> None:
    """Connect to a cluster, or start one of this many CPUs on this machine if the address is "local".

    gpu: whether each worker has a GPU.

    Raises:
        ValueError: the cluster is this machine alone, and has no room for them.
    """
    if not ray.is_initialized():
        if address == "local":
            ray.init(address="local", num_cpus=workers, include_dashboard=False)
        else:
            ray.init(address=address)
    for resource in ("CPU", "GPU") if gpu else ("CPU",):
        check_room(resource, workers, grows=address != "local")


def check_room(resource: str, workers: int, *, grows: bool) -> None:
    """Raise unless the cluster has one of a resource for each worker; warn, if it may grow.

    Ray lets an actor wait for what is not there, and one that waits looks like one that hangs.

    Raises:
        ValueError: it has fewer, and does not grow.
    """
    need = workers * (PartialState().num_processes if grows else 1)  # of this machine each process starts its own
    there = int(ray.cluster_resources().get(resource, 0))
    if there >= need:
        return
    lack = f"{need} reward workers take a {resource} each, and Ray has {there}"
    if not grows:
        raise ValueError(f"{lack}: give fewer --reward.workers, or --reward.worker-device cpu")
    logger.warning("%s: those that find none wait until the cluster grows", lack)


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

"""What Ray says of actors that are lost, or find no room, by a module in its place: no cluster is needed."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType, SimpleNamespace

import pytest

from algorithms.workers.remote import StepError, WorkerDied, WorkerTimeout


class RayError(Exception):
    """What all errors of Ray derive from, as the next ones do directly."""


ERRORS = {
    name: type(name, (RayError,), {})
    for name in ("GetTimeoutError", "RayActorError", "RayTaskError", "OutOfMemoryError", "NodeDiedError")
}


class Ray(ModuleType):
    """A cluster with these resources, whose actors answer with an error."""

    exceptions = SimpleNamespace(RayError=RayError, **ERRORS)

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)  # as libraries look for it
        self.resources, self.error, self.started = {}, None, []

    def is_initialized(self):
        return bool(self.started)

    def init(self, **options):
        self.started.append(options)

    def cluster_resources(self):
        return self.resources

    def remote(self, **options):
        method = SimpleNamespace(remote=lambda *args: None)
        return lambda steps: SimpleNamespace(remote=lambda build: SimpleNamespace(run=method))

    def get(self, answer, timeout):
        raise self.error


@pytest.fixture
def ray(monkeypatch):
    found = Ray()
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


@pytest.fixture
def ray_actor(ray):
    """The module, imported beside the one that others may have."""
    spec = find_spec("algorithms.workers.ray_actor")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("GetTimeoutError", WorkerTimeout),
        ("RayTaskError", StepError),
        ("RayActorError", WorkerDied),
        ("OutOfMemoryError", WorkerDied),
        ("NodeDiedError", WorkerDied),
    ],
)
def test_an_actor_that_is_lost_is_one_to_start_again_whatever_took_it(ray, ray_actor, error, raised):
    ray.error = ERRORS[error]("why")
    with pytest.raises(raised):
        ray_actor.RayChannel(lambda: None).call("run", "bright", timeout=1.0)


def test_a_machine_without_a_card_for_each_worker_is_refused(ray, ray_actor):
    ray.resources = {"CPU": 2.0, "GPU": 1.0}
    ray_actor.start_ray("local", 2)
    with pytest.raises(ValueError, match=r"2 reward workers take a GPU each, and Ray has 1: give fewer --reward\.work"):
        ray_actor.start_ray("local", 2, gpu=True)
    with pytest.raises(ValueError, match="3 reward workers take a CPU each, and Ray has 2"):  # started by another
        ray_actor.start_ray("local", 3)
    assert ray.started == [{"address": "local", "num_cpus": 2, "include_dashboard": False}]


def test_a_cluster_that_may_grow_is_waited_for_with_a_word(ray, ray_actor, monkeypatch, caplog):
    """It has workers of all processes."""
    monkeypatch.setattr(ray_actor, "PartialState", lambda: SimpleNamespace(num_processes=2))
    ray.resources = {"CPU": 8.0, "GPU": 2.0}
    ray_actor.start_ray("head:6379", 1, gpu=True)
    assert ray.started == [{"address": "head:6379"}] and not caplog.messages
    ray_actor.start_ray("head:6379", 4, gpu=True)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "8 reward workers take a GPU each, and Ray has 2"
    ]

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

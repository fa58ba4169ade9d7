"""Public names of a package, each as the module that defines it names it."""

import inspect
from importlib import import_module


def defining_names(package: str) -> list[str]:
    """Classes and functions that a package exports, sorted, as seen from it: `generator.CellFlux` of `cellenv`."""
    module = import_module(package)
    exported = [getattr(module, name) for name in module.__all__]
    found = [thing for thing in exported if inspect.isclass(thing) or inspect.isfunction(thing)]
    return sorted(f"{thing.__module__}.{thing.__qualname__}".removeprefix(f"{package}.") for thing in found)

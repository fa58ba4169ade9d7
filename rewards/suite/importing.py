"""Import a function that a command line names, from a module or from a Python file."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any


def import_function(source: str, function: str) -> Any:
    """The object named `function` in a module, "my.module", or in a Python file, "path/to/file.py".

    As with `python -m`, modules may lie in the current folder; a file may import its neighbours.

    Raises:
        ValueError: the module or file cannot be imported, or has no such function.
    """
    module = _load_file(Path(source)) if source.endswith(".py") else _import_module(source)
    if function not in vars(module):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ValueError(f"{source} has no function {function!r}; it has {', '.join(names) or 'none'}")
    return vars(module)[function]


@contextmanager
def _searched(folder: Path) -> Iterator[None]:
    """Put a folder first on the module search path."""
    entry = str(folder.absolute())
    sys.path.insert(0, entry)
    importlib.invalidate_caches()  # the folder may have changed since it was last listed
    try:
        yield
    finally:
        sys.path.remove(entry)


def _import_module(name: str) -> ModuleType:
    try:
        with _searched(Path.cwd()):
            return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise ValueError(
            f"cannot import the module {name!r}: {error}. Installed packages and the current folder, {Path.cwd()}, are"
            " searched; a file is given as path/to/file.py"
        ) from error


def _load_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ValueError(f"no file {file.absolute()}")
    name = f"reward_file_{file.stem}"  # prefixed, so that rewards.py does not replace the package `rewards`
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # of every .py file
    module = sys.modules[name] = module_from_spec(spec)  # registered, as dataclasses look their module up
    try:
        with _searched(file.parent):
            spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise ValueError(f"cannot import {file.absolute()}: {error}") from error
    return module

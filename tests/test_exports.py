"""What the packages export is there, and no module hides it."""

import subprocess
import sys
from types import ModuleType

import pytest

import algorithms
import cellenv
import rewards


@pytest.mark.parametrize("package", [algorithms, cellenv, rewards], ids=lambda package: package.__name__)
def test_every_exported_name_is_an_object_and_no_module(package):
    for _ in range(2):  # importing a module sets an attribute of its package
        found = {name: getattr(package, name) for name in package.__all__}
    assert [name for name, value in found.items() if isinstance(value, ModuleType)] == []


def test_importing_algorithms_is_light():
    code = "import sys, algorithms; assert 'torch' not in sys.modules; algorithms.train; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

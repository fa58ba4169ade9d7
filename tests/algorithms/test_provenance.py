import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from algorithms import provenance as module
from algorithms.config import DataConfig
from algorithms.provenance import library_version, provenance, shell_command


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/opt/bin/cellfluxrl", "score", "my cells"], "cellfluxrl score 'my cells'"),
        (["/lib/algorithms/cli.py", "score", "cells"], "cellfluxrl score cells"),
        (["examples/train_base.py", "--steps", "8"], "python examples/train_base.py --steps 8"),
    ],
)
def test_the_command_can_be_pasted_into_a_shell(monkeypatch, argv, command):
    monkeypatch.setattr(sys, "argv", argv)
    assert shell_command() == command


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    assert library_version() == "unknown"


def test_only_what_comes_of_our_own_cells_has_a_licence():
    own = provenance(DataConfig())
    assert own["license"] == "apache-2.0" and "no real ones" in own["data"]
    theirs = provenance(DataConfig(path=Path("/home/me/plates")))
    assert "license" not in theirs and theirs["data"] == "a folder of images, plates, in the layout bbbc021"

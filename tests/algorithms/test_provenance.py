import sys

import pytest

from algorithms.provenance import shell_command


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

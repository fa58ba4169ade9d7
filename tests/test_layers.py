"""Imports point down: cellenv <- rewards, cellenv <- algorithms, and examples know all three."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {"cellenv": set(), "rewards": {"cellenv"}, "algorithms": {"cellenv"}}
EXCEPTIONS = {("cellenv/gym/world.py", "rewards")}  # asks for the default suite when an environment is made
OURS = {*MAY_IMPORT, "examples", "tests"}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported(source: str, package: str) -> Iterator[str]:
    """Top-level packages that a file of `package` imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0] if node.level == 0 else package
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (str(arg.value).split(".")[0] for arg in node.args if isinstance(arg, ast.Constant))


def violations(file: str, source: str) -> set[str]:
    package = file.split("/")[0]
    wrong = set(imported(source, package)) & (OURS - MAY_IMPORT[package] - {package})
    return {name for name in wrong if (file, name) not in EXCEPTIONS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path):
    wrong = violations(path.relative_to(ROOT).as_posix(), path.read_text())
    assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}: the code is in the wrong layer"


def test_all_packages_are_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("rewards/a.py", "import algorithms.trainer", {"algorithms"}),
        ("rewards/a.py", "def f():\n    from algorithms import ema", {"algorithms"}),
        ("algorithms/losses/a.py", "from rewards.suite import moa", {"rewards"}),
        ("algorithms/a.py", "import importlib\nimportlib.import_module('rewards.suite')", {"rewards"}),
        ("cellenv/a.py", "from algorithms.ema import EMA\nimport rewards", {"algorithms", "rewards"}),
        ("cellenv/a.py", "import examples.train_base", {"examples"}),
        ("cellenv/gym/world.py", "def f():\n    from rewards import cellflux_rewards", set()),
        ("cellenv/gym/world.py", "import algorithms", {"algorithms"}),
        ("rewards/a.py", "from cellenv.env import VirtualCellEnv\nfrom . import algorithms", set()),
    ],
)
def test_the_check_finds_what_it_should(file, source, wrong):
    assert violations(file, source) == wrong

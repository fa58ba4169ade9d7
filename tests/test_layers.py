"""Imports point down, inside `algorithms` too, and no reward is named outside of `rewards`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.suite.spec import SUITE

ROOT = Path(__file__).parents[1]
LAYERS = ("cellenv", "rewards", "algorithms", "examples")  # from the lowest to the highest
PACKAGES = LAYERS[:3]
EXCEPTIONS = {("cellenv/gym/world.py", "rewards")}  # builds the default suite when an environment is made
UPPER_FLOOR = {  # of `algorithms`: it joins rewards and core; the core knows neither
    *("algorithms.config", "algorithms.build", "algorithms.command_line", "algorithms.cli", "algorithms.estimate"),
    *("algorithms.provenance", "algorithms.recipes", "algorithms.evaluation", "algorithms.inspection", "algorithms"),
}
ALLOWED_WORDS = {  # keys and columns about the mechanism of action itself
    *("moa", "BBBC021_v1_moa", "moa_accuracy", "moa_probability", "test_accuracy_per_moa"),
}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(source: str, file: str) -> Iterator[str]:
    """Modules that a file imports, wherever in it: `from a.b import c` gives a.b and a.b.c."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = file.split("/")[: -node.level] if node.level else []
            base = ".".join([*folder, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def inside(module: str, packages: set[str]) -> bool:
    """Whether a module is one of these or lies in one; "algorithms" stands for its __init__ alone."""
    return module in packages or any(module.startswith(f"{p}.") for p in packages - {"algorithms"})


def violations(file: str, source: str) -> set[str]:
    """What a file imports of its own or a higher layer and must not."""
    package, found = file.split("/")[0], set(imported(source, file))
    higher = {*LAYERS[LAYERS.index(package) + 1 :], "tests"}
    wrong = {name for name in found if name.split(".")[0] in higher and (file, name.split(".")[0]) not in EXCEPTIONS}
    if package == "algorithms" and not inside(module_of(file), UPPER_FLOOR):
        wrong |= {
            name for name in found if name.split(".")[0] == "rewards" or inside(name, UPPER_FLOOR - {"algorithms"})
        }
    return wrong


def strings(source: str) -> Iterator[str]:
    """String literals that are not docstrings."""
    tree = ast.parse(source)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def named_rewards(source: str) -> set[str]:
    """Words in the string literals of a file that contain the name of a reward."""
    words = {word for text in strings(source) for word in re.findall(r"\w+", text)}
    return {word for word in words if any(spec.name in word for spec in SUITE)} - ALLOWED_WORDS


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_point_down(path):
    wrong = violations(relative(path), path.read_text())
    assert not wrong, f"{relative(path)} imports {', '.join(sorted(wrong))}: the code is in the wrong layer"


@pytest.mark.parametrize("path", [path for path in FILES if "algorithms" in path.parts], ids=relative)
def test_no_reward_is_named_in_algorithms(path):
    assert named_rewards(path.read_text()) == set()


def test_all_packages_are_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("rewards/a.py", "import algorithms.trainer", {"algorithms.trainer"}),
        ("rewards/a.py", "def f():\n    from algorithms import ema", {"algorithms", "algorithms.ema"}),
        ("cellenv/a.py", "import rewards\nimport cellenv.env", {"rewards"}),
        ("cellenv/a.py", "import examples.train_base", {"examples.train_base"}),
        ("cellenv/gym/world.py", "def f():\n    from rewards import cellflux_rewards", set()),
        ("cellenv/gym/world.py", "import algorithms", {"algorithms"}),
        ("algorithms/recipes/a.py", "import examples", {"examples"}),
        ("algorithms/recipes/a.py", "import rewards\nfrom algorithms.trainer import train", set()),
        ("algorithms/evaluation/a.py", "from algorithms.recipes import nft", set()),
        ("algorithms/losses/a.py", "import importlib\nimportlib.import_module('rewards.suite')", {"rewards.suite"}),
        ("algorithms/losses/a.py", "from algorithms.config import X", {"algorithms.config", "algorithms.config.X"}),
        ("algorithms/trainer.py", "from algorithms import build, ema", {"algorithms.build"}),
        ("algorithms/trainer.py", "from . import config\nfrom .losses import nft", {"algorithms.config"}),
        (
            "algorithms/losses/a.py",
            "from ..evaluation.metrics import x",
            {"algorithms.evaluation.metrics"} | {"algorithms.evaluation.metrics.x"},
        ),
        ("rewards/a.py", "from cellenv.env import VirtualCellEnv\nfrom . import algorithms", set()),
    ],
)
def test_the_check_of_imports_finds_what_it_should(file, source, wrong):
    assert violations(file, source) == wrong


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ('x = "moa", "moa_accuracy", "the moa of a compound"', set()),
        ('x = "judge_moa"', {"judge_moa"}),
        ('"""containment"""\ndef f():\n    """roundness"""', set()),
        ('x = {"containment": 1}', {"containment"}),
        ('f"falls: roundness_{x}"', {"roundness_"}),
        ('a["cell_size"]', {"cell_size"}),
    ],
)
def test_the_check_of_names_finds_what_it_should(source, named):
    assert named_rewards(source) == named

"""The Python reference: what is public has a docstring, and what is exported is found where it is defined."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_names import defining_names

ROOT = Path(__file__).parents[2]
PACKAGES = ("cellenv", "rewards", "algorithms")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EXPLAINED_ELSEWHERE = {"forward", "log_prob", "transform_reward_spec"}  # PyTorch and TorchRL say what they are


Methods = dict[str, set[str]]  # names of the documented methods of each class


def undocumented(source: str, known: Methods) -> list[str]:
    """Public names of a module that have no docstring; the module itself is ''.

    known: a method need not repeat the docstring of a base class, or of a class that its own names in backticks.
    """
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else [""]
    return [*found, *members(tree, "", known | documented_methods(source))]


def documented_methods(source: str) -> Methods:
    """Those of the classes of one module."""
    return {
        node.name: {f.name for f in node.body if isinstance(f, ast.FunctionDef) and ast.get_docstring(f)}
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def members(node: ast.Module | ast.ClassDef, prefix: str, known: Methods) -> Iterator[str]:
    explained = {*EXPLAINED_ELSEWHERE}
    if isinstance(node, ast.ClassDef):  # its own name is that of a getter, whose setter needs no docstring
        named = re.findall(r"`(\w+)`", ast.get_docstring(node) or "")
        names = [node.name, *named, *(getattr(base, "id", "") for base in node.bases)]
        explained |= set().union(*(known.get(name, set()) for name in names))
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        if not ast.get_docstring(child) and child.name not in explained:
            yield prefix + child.name
        if isinstance(child, ast.ClassDef):
            yield from members(child, f"{prefix}{child.name}.", known)


@pytest.fixture(scope="module")
def known() -> Methods:
    """Documented methods of all classes; two classes of one name count as one."""
    found: Methods = {}
    for path in MODULES:
        for name, methods in documented_methods(path.read_text()).items():
            found[name] = found.get(name, set()) | methods
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_public_is_undocumented(path, known):
    assert undocumented(path.read_text(), known) == []


def test_the_check_finds_what_has_no_docstring():
    source = '''
def f(): ...
def _g(): ...
class A:
    """A."""
    def h(self): """H."""
    def forward(self): ...
    def i(self): ...
class B(A):
    """B."""
    def h(self): ...
class C(Far):
    """C."""
    def j(self): ...
    def k(self): ...
class D:
    """As `Far`."""
    def j(self): ...
    def k(self): ...
'''
    assert undocumented(source, {"Far": {"j"}}) == ["", "f", "A.i", "C.k", "D.k"]


def test_exports_are_named_where_they_are_defined():
    assert "generator.CellFlux" in defining_names("cellenv")
    assert "suite.spec.RewardSpec" in defining_names("rewards") and "suite.cellflux_rewards" in defining_names(
        "rewards"
    )
    assert not [name for name in defining_names("algorithms") if "." not in name]

"""Files, functions and example scripts stay small, and every module has a test file of its name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cellenv", "rewards", "algorithms")
LIBRARY = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FILES = [*LIBRARY, *sorted((ROOT / "examples").rglob("*.py")), *sorted((ROOT / "docs" / "_ext").glob("*.py"))]
SCRIPTS = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "__init__.py")
MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_SCRIPT_LINES = 300, 60, 8, 40
TUTORIALS = {"reinforce.py", "own_reward.py"}  # scripts that show code, and not only start a command
WITHOUT_TESTS = {"algorithms/train_config.py"}  # modules that hold nothing but field defaults


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Number of parameters, without self and cls."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def oversized(source: str) -> list[str]:
    """What is too long in a file, or has too many parameters."""
    lines = len(source.splitlines())
    found = [f"{lines} lines"] if lines > MAX_LINES else []
    for function in functions(ast.parse(source)):
        length = (function.end_lineno or 0) - function.lineno + 1
        found += [f"{function.name}: {length} lines"] if length > MAX_FUNCTION_LINES else []
        found += [f"{function.name}: {n} parameters"] if (n := parameters(function)) > MAX_PARAMETERS else []
    return found


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_are_small(path):
    assert oversized(path.read_text()) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_examples_are_short_scripts(path):
    source = path.read_text()
    assert 'if __name__ == "__main__":' in source
    assert path.name in TUTORIALS or len(source.splitlines()) <= MAX_SCRIPT_LINES


def files_for_tests_of(path: Path) -> list[Path]:
    """Where the tests of a module may lie: tests/a/b/test_c.py or tests/a/test_c.py."""
    folders = path.relative_to(ROOT).parts[:-1]
    name = f"test_{path.stem}.py"
    return [ROOT.joinpath("tests", *folders[:depth], name) for depth in range(1, len(folders) + 1)]


@pytest.mark.parametrize("path", [path for path in LIBRARY if path.name != "__init__.py"], ids=relative)
def test_every_module_has_a_test_file_of_its_name(path):
    tests = files_for_tests_of(path)
    found = relative(path) in WITHOUT_TESTS or any(test.is_file() for test in tests)
    assert found, f"need {relative(tests[-1])}"


def test_the_check_of_sizes_finds_what_it_should():
    long = "def f():\n" + "    x = 1\n" * 60
    many = "class A:\n    def g(self, a, b, c, d, e, f, g, *, h, i): ...\n    def h(self, a, b, c, d, e, f, g, h): ..."
    assert oversized(long) == ["f: 61 lines"] and oversized(many) == ["g: 9 parameters"]
    assert oversized("x = 1\n" * 301) == ["301 lines"]

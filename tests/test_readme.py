"""The README's Python runs as it stands; commands, flags and links of README, docs/ and contributors' pages exist."""

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from string import Template
from typing import Any

import pytest
import torch
import yaml
from tensordict import TensorDict

from algorithms.cli import COMMANDS
from algorithms.command_line import flag, nested_fields, parse

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (*(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")), *(ROOT / ".github").glob("*.md"))
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *CONTRIBUTING)
BLOCK_NAMES = ("minute", "function", "python", "gymnasium")
BLOCKS = dict(zip(BLOCK_NAMES, re.findall(r"```python\n(.*?)```", DOCUMENTS[0].read_text(), re.DOTALL), strict=True))
STUDIES = sorted(file.stem for file in (ROOT / "examples" / "studies").glob("*.py") if "\nPRESETS" in file.read_text())
LAUNCHERS = {"python", "accelerate", "torchrun"}
OTHER_FLAGS = {
    *("--preset", "--dry-run", "--help", "--version", "--data", "--reward", "--mixed_precision", "--nproc_per_node"),
    "--processes",  # of examples/reinforce.py
    "--ray",  # of the same
}


def execute(name: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile(BLOCKS[name], f"README.md ({name})", "exec"), scope)
    return scope


def test_in_a_minute():
    step = execute("minute")["step"]
    assert step["action"].shape == (8, 3, 96, 96) and step["next", "reward"].isfinite().all()
    first, second = step["group"].unflatten(0, (2, 4)).tolist()
    assert len({*first}) == len({*second}) == 1 and first != second


def test_own_reward_enters_the_sum(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(BLOCKS["function"])
    monkeypatch.syspath_prepend(tmp_path)
    rewards = execute("python")["rewards"]
    images = torch.zeros(2, 3, 96, 96)
    images[1, ..., ::2] = 0.5
    scored = rewards(TensorDict({"action": images, "moa": torch.zeros(2, dtype=torch.int64)}, [2]))
    assert scored["rewards", "sharpness"].flatten().tolist() == pytest.approx([0.0, 0.5])
    weights = {"moa": 5, "containment": 2, "sharpness": 0.5}  # as the README says; the others have 1
    total = sum(weights.get(name, 1) * values for name, values in scored["rewards"].items())
    assert len([*scored["rewards"].keys()]) == 8
    torch.testing.assert_close(scored["reward"], total)


def test_gymnasium():
    scope = execute("gymnasium")
    assert 0 <= scope["info"]["rewards"]["containment"] <= 1 and scope["terminated"]
    assert scope["envs"].num_envs == 64


def commands(text: str) -> Iterator[str]:
    """Lines of bash blocks and of indented blocks, and inline code, as far as they start one of our programs."""
    variables: dict[str, str] = {}
    lines = []
    for line in "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines():
        name, _, value = line.partition("=")
        if name.isupper() and value:
            variables[name] = Template(value.strip('"')).safe_substitute(variables)
        lines.append(Template(line).safe_substitute(variables))
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += [line for line in prose.splitlines() if line.startswith("    ")]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    for line in lines:
        line = line.strip().removeprefix("OMP_NUM_THREADS=1 ")
        if " " in line and line.split()[0] in LAUNCHERS | {"cellfluxrl"}:
            yield line


def resolve(words: list[str]) -> tuple[Mapping[str, Any], list[str]] | None:
    """PRESETS and arguments of a command; None if it is none of ours."""
    if words[0] in LAUNCHERS:
        at = next(i for i, word in enumerate(words) if word == "-m" or word.endswith(".py"))
        if words[at] != "-m":
            script = (ROOT / words[at]).read_text()
            if (call := re.search(r"run\((.*)\)", script)) is None or "algorithms.cli" not in script:
                return None
            words = ["cellfluxrl", *re.findall(r"\"([\w-]+)\"", call[1]), *words[at + 1 :]]
        elif words[at + 1].partition(".")[0] in ("algorithms", "examples"):
            if words[at + 1].endswith("gym_benchmark"):
                pytest.importorskip("stable_baselines3")
            return import_module(words[at + 1]).PRESETS, words[at + 2 :]
        else:
            return None
    if words[1] == "--version":
        return None
    command = next(tuple(words[1:n]) for n in (3, 2) if tuple(words[1:n]) in COMMANDS)
    return import_module(COMMANDS[command]).PRESETS, words[1 + len(command) :]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_documented_commands_parse(file):
    for line in commands(file.read_text()):
        found = resolve(shlex.split(line, comments=True))
        if found is not None:
            presets, args = found
            args = ["0" if word == "K" else word for word in args if word != "--help"]
            try:
                parse(presets, None, args)
            except SystemExit as error:
                raise AssertionError(line) from error


def known_flags() -> set[str]:
    """Every flag of every command and study, with and without its prefix."""
    modules = [*COMMANDS.values(), "examples.baselines.train"]
    modules += [f"examples.studies.{name}" for name in STUDIES]
    flags = set(OTHER_FLAGS)
    for name in modules:
        config = next(iter(import_module(name).PRESETS.values()))
        flags |= {f"--{flag(name)}" for name in vars(config)}
        for group, name in nested_fields(config):
            flags |= {f"--{flag(name)}", f"--{flag(group)}.{flag(name)}"}
            if isinstance(getattr(getattr(config, group), name), bool):
                flags.add(f"--no-{flag(name)}")
    return flags


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_documented_flags_exist(file):
    assert {*re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z]", file.read_text())} <= known_flags()


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", file.read_text()):
        path, _, anchor = target.partition("#")
        linked = file.parent / path if path else file
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, target


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_documented_make_targets_exist(file):
    targets = set(re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    assert {*re.findall(r"(?:^|`)make ([a-z-]+)", file.read_text(), re.MULTILINE)} <= known


@pytest.mark.parametrize("file", CONTRIBUTING, ids=lambda file: file.name)
def test_files_that_contributors_are_pointed_to_exist(file):
    named = re.findall(r"(?<![\w/.])(?:tests|docs|examples)/[\w/.-]*\w", file.read_text())
    modules = [name.replace(".", "/") + ".py" for name in re.findall(r"python -m (tests[\w.]+)", file.read_text())]
    assert [path for path in (*named, *modules) if not (ROOT / path).exists() and "_build" not in path] == []


def test_what_is_cited_is_in_the_bibliography():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= cited.keys()
    listed = (ROOT / "docs" / "bibliography.md").read_text()
    for paper in cited["references"]:
        assert {"type", "title", "authors"} <= paper.keys() and paper["url"] in listed, paper["title"]


@pytest.mark.parametrize(
    "file", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.name
)
def test_issue_forms_have_what_the_platform_needs(file):
    form = yaml.safe_load(file.read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all("label" in field["attributes"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) > 0

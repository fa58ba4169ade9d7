"""The command line of a script, and that --help is quick."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from algorithms.config import DataConfig
from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 3
    data: DataConfig = DataConfig()


PRESETS = {"default": Config(), "smoke": Config(steps=1)}


def test_flags_override_the_preset(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script", "--preset", "smoke"])
    assert parse_script(PRESETS, "What it does.") == Config(steps=1)
    monkeypatch.setattr(sys, "argv", ["script", "--steps", "7"])
    assert parse_script(PRESETS, "What it does.") == Config(steps=7)


def test_a_dry_run_prints_the_config_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--steps", "7", "--dry-run"])
    with pytest.raises(SystemExit) as end:
        parse_script(PRESETS, "What it does.")
    assert not end.value.code
    printed = capsys.readouterr().out.splitlines()
    assert "steps = 7" in printed and "data.layout = bbbc021" in printed


EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPTS = [file for file in sorted(EXAMPLES.rglob("*.py")) if "= parse_script(" in file.read_text()]
LIGHT = {
    "algorithms.config",
    "algorithms.config_checks",
    "algorithms.evaluation.generate",
    "algorithms.train_config",
    "examples.baselines",
    "examples.studies.command_line",
    "examples.studies.comparison_config",
    "examples.studies.gym_config",
    "tyro",
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_only_light_modules_are_imported_before_parsing(script):
    body = ast.parse(script.read_text()).body
    parsing = next(i for i, node in enumerate(body) if isinstance(node, ast.If))  # if __name__ == "__main__"
    imports = [node.module for node in body[:parsing] if isinstance(node, ast.ImportFrom)]
    imports += [alias.name for node in body[:parsing] if isinstance(node, ast.Import) for alias in node.names]
    assert {name for name in imports if name.partition(".")[0] not in sys.stdlib_module_names} <= LIGHT


def test_light_modules_import_no_torch():
    code = f"import {', '.join(sorted(LIGHT))}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES.parent).returncode == 0


def test_all_scripts_are_found():
    assert {"compare", "studies", "sampler_sweep", "gym_benchmark", "train", "generate"} <= {s.stem for s in SCRIPTS}

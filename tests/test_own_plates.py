"""The commands of docs/own_plates.md run as they stand, in small: from drawn plates to the evaluation."""

import json
import re
import shlex
from pathlib import Path
from string import Template

import pytest

from algorithms.cli import COMMANDS, main
from cellenv.networks import PRESETS, UNetConfig

BLOCK = re.search(r"```bash\n(.*?)```", (Path(__file__).parents[1] / "docs" / "own_plates.md").read_text(), re.DOTALL)
SMALL = {  # flags that make a command small
    ("draw-plates",): "--preset smoke --height 256 --width 320",
    ("prepare",): "--workers 1 --nucleus-diameter 36",
    ("score",): "--limit 8",
    ("fit", "classifier"): "--epochs 1",
    ("fit", "reference"): "--min-cells 2",
    ("train", "base"): "--preset smoke --threads 1 --mixed-precision no --steps 4",
    ("train", "nft"): "--preset smoke --threads 1 --mixed-precision no --iterations 2 --trackers",
    ("train", "distil"): "--preset smoke --threads 1 --mixed-precision no --iterations 1 --trackers",
    ("evaluate",): "--preset smoke",
}


def documented_commands():
    """Words of every command of the block, variables replaced, made small."""
    assert BLOCK is not None
    variables = {}
    for line in BLOCK[1].replace("001000", "000004").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.isupper():
            variables[name] = Template(value.strip('"')).substitute(variables)
        elif line:
            words = shlex.split(Template(line).substitute(variables), comments=True)[1:]
            command = next(tuple(words[:n]) for n in (2, 1) if tuple(words[:n]) in COMMANDS)
            yield [*words, *SMALL[command].split()]


@pytest.mark.slow
def test_the_documented_path(tmp_path, monkeypatch):
    tiny = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
    monkeypatch.setitem(PRESETS, "embedded", tiny)
    monkeypatch.chdir(tmp_path)
    for words in documented_commands():
        main(words)
    evaluation = json.loads((tmp_path / "runs/plates/evaluation/evaluation.json").read_text())
    assert list(evaluation["rows"]) == ["base", "rl", "real"]
    assert evaluation["rows"]["rl"]["n_contexts"] >= 2
    distilled = json.loads((tmp_path / "runs/plates/distil/evaluation.json").read_text())
    assert distilled["weights"]["base"] == evaluation["weights"]["base"]  # what its teacher was trained from
    assert (tmp_path / "runs/plates/scores/contact_sheet.png").is_file()

import csv
from pathlib import Path

import pytest

from algorithms.cli import run
from algorithms.command_line import parse
from algorithms.evaluation.score import PRESETS, ScoreConfig
from cellenv.data.synthetic import SyntheticCells
from tests.folder_toys import write_folder


def test_a_folder_is_scored_from_the_command_line(data: SyntheticCells, tmp_path, monkeypatch):
    rows = data.treated[:3]
    write_folder(tmp_path / "cells", data, rows, data.images(rows))
    (tmp_path / "mine.py").write_text("def sharpness(images):\n    return images.diff(dim=-1).abs().mean((1, 2, 3))\n")
    monkeypatch.chdir(tmp_path)
    run("score", args="cells --output-dir out --segmenter classical --reward sharp=mine:sharpness --limit 2".split())
    with Path("out/measures.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert len(found) == 2 and all(float(row["reward_sharp"]) > 0 for row in found)
    assert Path("out/contact_sheet.png").is_file()


def test_the_folder_is_positional_and_flags_are_short():
    config = parse(PRESETS, None, ["cells", "--segmenter", "classical", "--skip-bad", "--layout", "jump"]).config
    assert config.folder == Path("cells") and config.reward.segmenter == "classical"
    assert config.data.skip_bad and config.data.layout == "jump"


def test_a_limit_below_one_image_is_refused():
    with pytest.raises(ValueError, match="limit must be at least 1"):
        ScoreConfig(limit=0)

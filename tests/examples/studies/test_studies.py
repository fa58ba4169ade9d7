"""The command of the studies: it runs the grid that it is asked for and reports against the starting setting."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from examples.studies import studies
from examples.studies.candidates import run_name
from examples.studies.grids import STUDIES
from examples.studies.results import save_csv
from tests.examples.studies.comparison_toys import results

DEFAULT = replace(studies.PRESETS["default"], study="kl")
DOCUMENT = Path(__file__).parents[3] / "docs" / "studies.md"


@pytest.fixture
def asked(monkeypatch):
    """Replace the runs by results made by hand; what `run_all` was asked for."""
    asked = []

    def run_all(config, candidates, seeds, *, split):
        asked.append((config, candidates, tuple(seeds), split))
        made = results({c.name: [[-3.0, -2.0]] * len(seeds) for c in candidates})
        save_csv(config.output_dir / "results.csv", made.runs, "setting")
        return made

    monkeypatch.setattr(studies, "run_all", run_all)
    return asked


def test_each_grid_holds_its_starting_setting_once(tmp_path):
    config = replace(DEFAULT, output_dir=tmp_path)
    for study in STUDIES.values():
        for grid in (study.reduced, study.full):
            start = [c.name for c in grid.candidates if run_name(config, c) == "nft"]
            assert start == [studies.baseline_of(config, grid.candidates)]
    baselines = {name: studies.baseline_of(config, study.reduced.candidates) for name, study in STUDIES.items()}
    assert (baselines["single"], baselines["kl"], baselines["beta"]) == (
        "combination",
        "kl_weight=0.4",
        "beta=0.1,decay=default",
    )
    other = replace(config, group_size=4)
    assert studies.baseline_of(other, STUDIES["group_size"].reduced.candidates) == ""


def test_a_study_runs_its_reduced_grid_and_reports(asked, tmp_path):
    studies.main(replace(DEFAULT, study="single", output_dir=tmp_path))
    grid = STUDIES["single"].reduced
    ((config, candidates, seeds, split),) = asked
    assert (config.budget, candidates, seeds, split) == (grid.budget, grid.candidates, grid.seeds, "test")
    assert (config.output_dir, config.runs_dir) == (tmp_path / "single", tmp_path / "runs-test")
    table = (tmp_path / "single" / "table.md").read_text()
    assert all(f"| {c.name} |" in table for c in grid.candidates) and "Gain over combination;" in table


def test_what_chooses_a_default_looks_at_validation_contexts_alone(asked, tmp_path):
    studies.main(replace(DEFAULT, study="levers", output_dir=tmp_path))
    ((config, _, _, split),) = asked
    assert (config.runs_dir, split) == (tmp_path / "runs-validation", "validation")


def test_flags_replace_the_values_of_the_full_grid(asked, tmp_path):
    studies.main(replace(DEFAULT, study="form", output_dir=tmp_path, full=True, seeds=(4,), budget=7))
    ((config, candidates, seeds, _),) = asked
    assert (config.budget, candidates, seeds) == (7, STUDIES["form"].full.candidates, (4,))
    assert (config.output_dir, config.runs_dir) == (tmp_path / "form-full", tmp_path / "runs-test-full")


def test_a_study_runs_only_the_settings_that_are_named(asked, tmp_path):
    studies.main(replace(DEFAULT, study="levers", full=True, only=("muon", "default"), output_dir=tmp_path))
    ((_, candidates, _, _),) = asked
    assert [c.name for c in candidates] == ["default", "muon"]
    with pytest.raises(ValueError, match="--only mu: the grid has default, beta-and-lag-as-published"):
        studies.main(replace(DEFAULT, study="levers", only=("mu", "muon"), output_dir=tmp_path))


def test_the_document_says_what_the_code_does():
    assert tuple(STUDIES) == get_args(studies.StudyName)
    text = DOCUMENT.read_text()
    for name, study in STUDIES.items():
        section = text.split(f"## `{name}`")[1].split("\n## ")[0]
        assert study.question in section and f"python -m examples.studies.studies {name}" in section
        for grid in (study.reduced, study.full):
            count = f"{len(grid.candidates)} settings × {len(grid.seeds)} seeds = {grid.runs} runs"
            assert f"{count} of {grid.budget:,}" in section

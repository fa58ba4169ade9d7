"""The studies: their grids fit the script, the budget of time and the documents, and each ends with a table."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from comparison_toys import results


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import studies

    return studies


@pytest.fixture
def asked(script, monkeypatch):
    """What run_all was asked for; it gives results made by hand."""
    asked = []

    def run_all(plan, candidates, seeds, *, split):
        from results import save_csv

        asked.append((plan, candidates, tuple(seeds), split))
        made = results({c.name: [[-3.0, -2.0]] * len(seeds) for c in candidates})
        save_csv(plan.output_dir / "results.csv", made.runs, "setting")
        return made

    monkeypatch.setattr(script, "run_all", run_all)
    return asked


def test_every_candidate_is_a_config_of_its_own(script, tmp_path):
    from equal_cost import settings_of

    for study in script.STUDIES.values():
        for grid in (study.reduced, study.full):
            plan = replace(script.PRESETS["default"], output_dir=tmp_path, study="kl", budget=grid.budget)
            told = [(str(settings_of(plan, c, 0, tmp_path)), str(c.weights)) for c in grid.candidates]
            assert len(set(told)) == len({c.name for c in grid.candidates}) == len(told)
            assert not any("/" in c.name or " " in c.name for c in grid.candidates)


def test_a_reduced_grid_takes_less_than_an_hour_and_the_full_one_is_larger(script):
    from plans import BUDGET

    for study in script.STUDIES.values():
        assert study.reduced.runs * 3.5 < 60 and study.reduced.budget <= BUDGET < study.full.budget
        assert study.full.runs > study.reduced.runs


def test_each_grid_holds_the_setting_that_it_starts_from_once(script, tmp_path):
    from compare import SEARCHES
    from equal_cost import run_name

    search = SEARCHES["nft"]
    assert script.START == search.settings[search.chosen]
    plan = replace(script.PRESETS["default"], output_dir=tmp_path, study="kl")
    for study in script.STUDIES.values():
        for grid in (study.reduced, study.full):
            start = [c.name for c in grid.candidates if run_name(plan, c) == "nft,beta=0.1"]
            assert start == [script.usual(plan, grid.candidates)]
    usual = {name: script.usual(plan, study.reduced.candidates) for name, study in script.STUDIES.items()}
    assert script.usual(replace(plan, group_size=4), script.STUDIES["group_size"].reduced.candidates) == ""
    assert (usual["single"], usual["kl"], usual["beta"]) == ("combination", "kl_weight=0.4", "beta=0.1,decay=0.8")


def test_rewards_alone_are_those_of_the_suite(script):
    from rewards.suite import WEIGHTS

    assert {c.name: c.weights for c in script.ALONE} == {name: {name: 1.0} for name in WEIGHTS} | {"combination": None}


def test_a_grid_is_named_after_its_values(script):
    names = [c.name for c in script.STUDIES["beta"].reduced.candidates]
    assert names[:2] == ["beta=0.1,decay=published", "beta=0.1,decay=0.8"] and len(names) == 4
    first = script.STUDIES["beta"].reduced.candidates[1]
    assert first.options == {"beta": 0.1, "decay_slope": 0.8, "decay_most": 0.8}
    told = [script.START | {"a": 1, "b": 3}, script.START | {"a": 2, "b": 3}]
    assert [c.options for c in script.vary(a=(1, 2), b=(3,))] == told


@pytest.mark.parametrize("study", ["single", "kl", "beta", "coupling", "group_size", "form"])
def test_each_study_runs_its_grid_and_publishes(script, asked, tmp_path, study):
    config = replace(script.PRESETS["default"], study=study, output_dir=tmp_path)
    script.main(config)
    script.main(replace(config, full=True, seeds=(4,), budget=7))
    reduced, full = script.STUDIES[study].reduced, script.STUDIES[study].full
    (plan, candidates, seeds, split), (longer, more, own, _) = asked
    assert (plan.budget, candidates, seeds, split) == (reduced.budget, reduced.candidates, reduced.seeds, "test")
    assert (longer.budget, more, own) == (7, full.candidates, (4,))
    assert (plan.output_dir, longer.output_dir) == (tmp_path / study, tmp_path / f"{study}-full")
    table = (tmp_path / study / "table.md").read_text()
    assert all(f"| {c.name} |" in table for c in reduced.candidates)
    assert f"Gain over {script.usual(plan, reduced.candidates)};" in table
    assert (tmp_path / study / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_document_says_what_the_code_does(script, request):
    text = (request.config.rootpath / "docs" / "studies.md").read_text()
    for name, study in script.STUDIES.items():
        section = text.split(f"## `{name}`")[1].split("\n## ")[0]
        assert study.asks in section and f"python examples/studies.py {name}" in section
        for grid in (study.reduced, study.full):
            count = f"{len(grid.candidates)} settings × {len(grid.seeds)} seeds = {grid.runs} runs"
            assert f"{count} of {grid.budget:,} passes" in section


def test_help_needs_no_heavy_import(request):
    command = [sys.executable, "-X", "importtime", "examples/studies.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--full" in done.stdout and "torch" not in done.stderr

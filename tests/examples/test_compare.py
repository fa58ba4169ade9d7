"""The comparison: its settings fit the scripts, a tuning looks elsewhere, and what is said comes from the CSV."""

import importlib
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from comparison_toys import results

from algorithms.policies import Chain
from cellenv.generator import CellFlux


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import compare

    return compare


@pytest.fixture
def given(script, monkeypatch):
    """run_all gives results made by hand and notes what it was asked for."""
    asked, totals = [], {}

    def run_all(plan, candidates, seeds, *, split, label="setting"):
        from results import save_csv

        asked.append((plan, candidates, list(seeds), split))
        made = results({c.name: [totals.get(c.name, [-3.0, -2.0])] * len(seeds) for c in candidates})
        save_csv(plan.output_dir / "results.csv", made.runs, label)
        return made

    monkeypatch.setattr(script, "run_all", run_all)
    return asked, totals


def test_searches_are_fair_and_their_settings_exist(script, tmp_path):
    from plans import NAMES

    assert tuple(script.SEARCHES) == NAMES
    embedded = CellFlux.from_pretrained("embedded")
    for name, search in script.SEARCHES.items():
        assert search.chosen in search.settings and len(search.settings) <= 8
        usual = importlib.import_module(f"train_{name}").Config(output_dir=tmp_path)
        configs = [replace(usual, **options) for options in search.settings.values()]
        assert len({str(config) for config in configs}) == len(configs)
        for config in configs:
            if name in ("grpo", "ppo"):
                Chain.of(embedded, window=config.window, eta=config.eta).source_level(embedded.noise_level)
    assert min(len(search.settings) for search in script.SEARCHES.values()) >= len(script.SEARCHES["nft"].settings)


def test_a_comparison_takes_what_was_chosen_and_is_made_on_the_test_split(script, given, tmp_path, capsys, monkeypatch):
    asked, totals = given
    totals["nft"] = [-2.0, 0.0]
    monkeypatch.setitem(script.SEARCHES, "grpo", replace(script.SEARCHES["grpo"], chosen="lr=1e-4"))
    script.main(replace(script.PRESETS["default"], output_dir=tmp_path))
    ((plan, candidates, seeds, split),) = asked
    assert split == "test" and seeds == [1, 2, 3] and plan.budget == script.PRESETS["default"].budget
    assert [c.name for c in candidates] == [c.algorithm for c in candidates] == list(script.SEARCHES)
    assert {c.name: c.options for c in candidates}["grpo"] == {"learning_rate": 1e-4}
    text = (tmp_path / "table.md").read_text()
    assert "nft reaches the final total of grpo, −2.000, with 2.0 × fewer passes" in text
    assert "grpo takes its setting lr=1e-4, of default, lr=1e-3, lr=1e-4" in text
    assert "the final total of ppo" in capsys.readouterr().out


def test_the_claim_is_taken_from_the_csv(script, given, tmp_path, monkeypatch):
    def spoil(file, label):
        assert file.read_text().splitlines()[0].split(",")[:6] == [
            label,
            "seed",
            "point",
            "iteration",
            "passes",
            "seconds",
        ]
        raise KeyError("the CSV was read")

    monkeypatch.setattr(script, "load_csv", spoil)
    with pytest.raises(KeyError, match="the CSV was read"):
        script.main(replace(script.PRESETS["default"], output_dir=tmp_path))


def test_a_tuning_has_other_contexts_and_names_the_best(script, given, tmp_path, capsys):
    asked, totals = given
    totals["lr=1e-4"] = [-2.0, -1.0]
    script.main(replace(script.PRESETS["default"], output_dir=tmp_path, tune="grpo"))
    ((plan, candidates, seeds, split),) = asked
    assert split == "validation" and seeds == [script.TUNING_SEED]
    assert script.TUNING_SEED not in script.PRESETS["default"].seeds
    assert {c.name: c.options for c in candidates} == script.SEARCHES["grpo"].settings
    assert {c.algorithm for c in candidates} == {"grpo"} and plan.output_dir == tmp_path / "tune-grpo"
    assert "of grpo the best setting is lr=1e-4" in capsys.readouterr().out
    assert (tmp_path / "tune-grpo" / "results.csv").exists()


def test_help_is_quick(request):
    start = time.monotonic()
    command = [sys.executable, "-X", "importtime", "examples/compare.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--tune" in done.stdout and "torch" not in done.stderr
    assert time.monotonic() - start < 5

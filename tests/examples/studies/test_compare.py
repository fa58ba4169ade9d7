"""The comparison: its searches fit the recipes, a tuning uses other contexts, and its claims come from the CSV."""

from dataclasses import replace

import pytest

from algorithms.sde import SDESampler
from cellenv.generator import CellFlux
from examples.studies import compare
from examples.studies.candidates import candidate_config
from examples.studies.comparison_config import ALGORITHM_NAMES, Candidate
from examples.studies.results import save_csv
from examples.studies.searches import SEARCHES
from tests.examples.studies.comparison_toys import results

DEFAULT = compare.PRESETS["default"]


@pytest.fixture
def requests(monkeypatch):
    """Replace the runs by results made by hand; what `run_all` was asked for, and the totals that it returns."""
    asked, totals = [], {}

    def run_all(config, candidates, seeds, *, split, label="setting"):
        asked.append((config, candidates, list(seeds), split))
        made = results({c.name: [totals.get(c.name, [-3.0, -2.0])] * len(seeds) for c in candidates})
        save_csv(config.output_dir / "results.csv", made.runs, label)
        return made

    monkeypatch.setattr(compare, "run_all", run_all)
    return asked, totals


def test_searches_are_fair_and_their_settings_are_configs_of_their_own(tmp_path):
    assert tuple(SEARCHES) == ALGORITHM_NAMES and len(SEARCHES["nft"]) == 8
    embedded = CellFlux.from_pretrained("embedded")
    for name, settings in SEARCHES.items():
        assert settings["default"] == {} and len(settings) >= 8
        candidates = [Candidate(name="any", algorithm=name, options=options) for options in settings.values()]
        configs = [candidate_config(DEFAULT, candidate, 0, tmp_path) for candidate in candidates]
        assert len({str(config) for config in configs}) == len(configs)
        if name in ("grpo", "ppo"):
            for config in configs:  # the embedded sampler has the noisy steps that are asked for
                SDESampler.from_generator(embedded, sde_window=config.rollout.sde_window, eta=config.rollout.eta)


def test_a_comparison_uses_the_defaults_on_the_test_split(requests, tmp_path, capsys):
    asked, totals = requests
    totals["nft"] = [-2.0, 0.0]
    compare.main(replace(DEFAULT, output_dir=tmp_path))
    ((config, candidates, seeds, split),) = asked
    assert split == "test" and seeds == [1, 2, 3] and config.budget == DEFAULT.budget
    assert [c.name for c in candidates] == [c.algorithm for c in candidates] == list(ALGORITHM_NAMES)
    assert not any(c.options for c in candidates)
    text = (tmp_path / "table.md").read_text()
    assert "nft reaches the final total of grpo, −2.000, with 2.0 × fewer network evaluations" in text
    assert "grpo: the default, chosen before kl=0.1, kl=0.2, kl=0.4" in text
    assert "the final total of ppo" in capsys.readouterr().out


def test_the_claim_follows_the_csv(requests, tmp_path, monkeypatch):
    """The last point of every run is removed from the CSV, as a reader may do who checks the claim."""
    _, totals = requests
    totals["nft"] = [-2.0, 0.0]
    load_csv = compare.load_csv
    monkeypatch.setattr(compare, "load_csv", lambda file, label: load_csv(without_last_point(file), label))
    compare.main(replace(DEFAULT, output_dir=tmp_path))
    assert "nft reaches the final total of grpo, −3.000, with 2.0 ×" in (tmp_path / "table.md").read_text()


def without_last_point(file):
    lines = file.read_text().splitlines()
    kept = [lines[0], *(line for line in lines[1:] if line.split(",")[2] != "2")]
    file.write_text("\n".join(kept) + "\n")
    return file


def test_a_tuning_uses_validation_contexts_and_names_the_best(requests, tmp_path, capsys):
    asked, totals = requests
    totals["kl=0.4"], totals["kl=0.2"] = [-3.5, -3.4], [-2.0, 1.0]
    compare.main(replace(DEFAULT, output_dir=tmp_path, tune="grpo"))
    ((config, candidates, seeds, split),) = asked
    assert split == "validation" and seeds == list(compare.TUNING_SEEDS)
    assert not set(compare.TUNING_SEEDS) & set(DEFAULT.seeds)
    assert {c.name: c.options for c in candidates} == SEARCHES["grpo"]
    assert {c.algorithm for c in candidates} == {"grpo"} and config.output_dir == tmp_path / "tune-grpo"
    assert "of grpo the best setting is kl=0.4" in capsys.readouterr().out  # the others are too far from real cells


def test_no_setting_is_chosen_where_all_leave_the_real_cells():
    assert compare.best_setting(results({"far": [[1.0]], "farther": [[2.0]]})) == "none"

"""Results of runs as tables and as CSV."""

from dataclasses import asdict

import numpy as np
import pytest

from examples.studies.results import CandidateRun, load_csv, save_csv
from tests.examples.studies.comparison_toys import METRICS, results


def test_a_run_survives_json():
    (run,) = results({"nft": [[-2.0, 1.0]]}).runs
    assert CandidateRun.from_dict(asdict(run)) == run


def test_final_values_are_those_of_the_last_point_by_seed():
    made = results({"nft": [[-2.0, 1.0], [-3.0, -1.0]], "grpo": [[5.0]]})
    assert made.names() == ["nft", "grpo"] and made.metrics() == METRICS
    np.testing.assert_allclose(made.final("nft", "total").mean(1), [1.0, -1.0], atol=1e-6)
    assert made.final("grpo", "moa").shape == (1, 6)


def test_csv_has_a_line_for_each_point_and_returns_as_columns(tmp_path):
    made = results({"nft": [[-2.0, 1.0], [-3.0, -1.0]], "grpo": [[5.0, 6.0]]})
    save_csv(tmp_path / "out" / "results.csv", made.runs, "algorithm")
    head, *lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    figures = ["frechet", "kernel", "diversity"]
    assert head.split(",") == ["algorithm", "seed", "point", "iteration", "nfe", "seconds", *METRICS, *figures]
    assert len(lines) == 9
    curves = load_csv(tmp_path / "out" / "results.csv", "algorithm")
    assert {name: len(seeds) for name, seeds in curves.items()} == {"nft": 2, "grpo": 1}
    second = curves["nft"][1]
    assert second["seed"].tolist() == [1, 1, 1] and second["nfe"].tolist() == [0, 100, 200]
    assert second["total"] == pytest.approx([-4.0, -3.0, -1.0]) and second["frechet"] == pytest.approx([6, 7, 9])

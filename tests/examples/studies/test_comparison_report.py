"""Tables, claims and pictures from results made by hand."""

import pytest

from examples.studies.comparison_report import (
    gain,
    gain_table,
    plot_gains,
    sample_efficiency,
    summary_table,
    write_report,
)
from examples.studies.results import load_csv, save_csv
from tests.examples.studies.comparison_toys import results


@pytest.fixture
def curves(tmp_path):
    """Return a function from totals to the curves in the CSV of such results."""

    def curves(totals):
        save_csv(tmp_path / "results.csv", results(totals).runs, "algorithm")
        return load_csv(tmp_path / "results.csv", "algorithm")

    return curves


def test_sample_efficiency_is_counted_in_nfe_on_the_mean_curve(curves):
    fast, slow = [[-2.0, 0.0, 1.0], [0.0, 1.0, 2.0]], [[-3.5, -3.0, -3.0], [-3.0, -2.0, -1.0]]
    # the base is -4; slow ends at -2 on average, which fast, at -1 after 100 NFE, reaches after 67 of 300
    significant = {"nft": fast, "grpo": [[*line, 0.0] for line in slow]}
    sentence = sample_efficiency(results(significant), curves({"nft": fast, "grpo": slow}), "nft", "grpo")
    assert sentence == (
        "nft reaches the final total of grpo, −2.000, with 4.5 × fewer network evaluations (by seed: 6.0, 4.0)"
    )


def test_an_efficiency_is_claimed_only_where_there_is_a_level_to_reach(curves):
    totals = {"nft": [[-2.0, -1.0]], "better": [[-2.0, 0.0]], "worse": [[-5.0, -4.5]]}
    made, drawn = results(totals), curves(totals)
    assert sample_efficiency(made, drawn, "nft", "better") == "nft does not reach the final total of better, 0.000"
    assert sample_efficiency(made, drawn, "nft", "worse").startswith("nft has nothing to reach")
    totals = {"nft": [[-2.0, -1.0], [-3.0, -3.0]], "grpo": [[-3.0, -2.6], [-5.0, -2.4]], "luck": [[-3.0], [-4.5]]}
    made, drawn = results(totals), curves(totals)
    assert sample_efficiency(made, drawn, "nft", "grpo").endswith("2.0 × fewer network evaluations (by seed: 2.9, not)")
    assert sample_efficiency(made, drawn, "nft", "luck") == (
        "nft has nothing to reach: the final total of luck, −3.750, is not significantly above the base"
    )


def test_the_summary_shows_the_end_beside_base_and_real():
    table = summary_table(results({"nft": [[-2.0, 1.0], [-2.0, 2.0]], "grpo": [[-3.0, -4.5]]}), "algorithm")
    rows = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    assert list(rows) == ["nft", "grpo", "base", "real"]
    nft, grpo, real = rows["nft"], rows["grpo"], rows["real"]
    assert nft["iterations"] == "20" and nft["minutes"] == "0.0" and nft["total"].startswith("1.50 (")
    assert nft["gap closed, %"] == "92 (83 to 100)" and grpo["gap closed, %"] == "−8"  # of moa's, from -0.4 to 0.2
    assert nft["Fréchet"] == "11.5 (11.0 to 12.0)" and grpo["Fréchet"] == "5.50" and real["Fréchet"] == "12.0"
    assert nft["diversity"] == "5.00 (5.00 to 5.00)" and real["gap closed, %"] == ""
    assert "2 seeds and 6 contexts" in table.title


def test_gains_are_marked_where_the_interval_leaves_zero():
    table = gain_table(results({"up": [[1.0]], "down": [[-4.5]], "unsure": [[-3.0], [-4.9]]}), "setting")
    assert [row[1] for row in table.rows] == ["+5.000 ▲", "−0.500 ▼", "+0.050 ·"]
    assert {cell.lstrip("+") for row in table.rows for cell in row[3:]} == {"0.000 ·"}
    assert table.head[1:3] == ["total", "moa"] and table.head[-1] == "judge: containment"
    assert table.transpose().head == ["setting", "up", "down", "unsure"]
    assert table.transpose().transpose() == table


def test_candidates_are_compared_with_one_of_them_seed_by_seed():
    made = results({"start": [[-3.0], [1.0]], "better": [[-2.0], [2.0]], "unsure": [[1.0], [-3.0]]})
    table = gain_table(made, "setting", over="start")
    assert [row[:2] for row in table.rows] == [["better", "+1.000 ▲"], ["unsure", "+0.000 ·"]]
    assert table.title.startswith("Gain over start;")


def test_seeds_that_differ_widen_the_interval():
    alike, apart = (gain(results({"nft": seeds}), "nft", "total") for seeds in ([[0.0]] * 2, [[-1.0], [1.0]]))
    assert (alike.low, alike.high) == pytest.approx((4, 4))
    assert (apart.low, apart.high) == pytest.approx((4 - 12.706, 4 + 12.706), abs=1e-3)


def test_a_report_is_printed_and_written(curves, tmp_path, capsys):
    totals = {"nft": [[-2.0, 1.0], [-1.0, 0.0]], "grpo": [[-3.0, -2.0], [-3.0, -2.5]]}
    folder, options = tmp_path / "out", {"label": "algorithm", "notes": ["a note"]}
    write_report(results(totals), curves(totals), folder, baseline="nft", **options)
    text, shown = (folder / "table.md").read_text(), capsys.readouterr().out
    assert "| algorithm | iterations |" in text and text.endswith("\n- a note\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[:6]} == {11} and {line.count("|") for line in lines[6:]} == {12}
    assert "a note" in shown and "grpo" in shown and "Gain over nft" in shown and "Gain over nft" in text
    learning_curves = (folder / "picture.png").read_bytes()
    assert learning_curves.startswith(b"\x89PNG")
    gains = plot_gains(results(totals))
    write_report(results(totals), curves(totals), folder, baseline="awm", picture=gains, **options)
    assert "Gain over awm" not in (folder / "table.md").read_text()
    assert (folder / "picture.png").read_bytes() == gains != learning_curves

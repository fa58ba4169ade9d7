"""Tables, claims and pictures from results made by hand."""

import pytest
from comparison_toys import results


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import standings

    return standings


@pytest.fixture
def table(script, tmp_path):
    """totals -> what load_csv reads of the CSV of such results."""
    from results import load_csv, save_csv

    def table(totals, **options):
        save_csv(tmp_path / "results.csv", results(totals, **options).runs, "algorithm")
        return load_csv(tmp_path / "results.csv", "algorithm")

    return table


def test_the_lead_is_counted_in_passes_on_the_mean_curve(script, table):
    fast, slow = [[-2.0, 0.0, 1.0], [0.0, 1.0, 2.0]], [[-3.5, -3.0, -3.0], [-3.0, -2.0, -1.0]]
    # the base is -4; slow ends at -2 on average, which fast, -1 after 100 passes, reaches after 67 of 300
    totals = {"nft": fast, "grpo": [[*line, 0.0] for line in slow]}
    said = script.lead(results(totals), table({"nft": fast, "grpo": slow}), "nft", "grpo")
    assert said == ("nft reaches the final total of grpo, −2.000, with 4.5 × fewer passes (seed by seed: 6.0, 4.0)")


def test_a_lead_that_is_none_is_not_made_one(script, table):
    totals = {"nft": [[-2.0, -1.0]], "better": [[-2.0, 0.0]], "worse": [[-5.0, -4.5]]}
    made, seeds = results(totals), table(totals)
    assert script.lead(made, seeds, "nft", "better") == "nft does not reach the final total of better, 0.000"
    assert script.lead(made, seeds, "nft", "worse").startswith("nft has nothing to reach")
    totals = {"nft": [[-2.0, -1.0], [-3.0, -3.0]], "grpo": [[-3.0, -2.6], [-5.0, -2.4]], "luck": [[-3.0], [-4.5]]}
    made, seeds = results(totals), table(totals)
    assert script.lead(made, seeds, "nft", "grpo").endswith("2.0 × fewer passes (seed by seed: 2.9, not)")
    assert script.lead(made, seeds, "nft", "luck") == (
        "nft has nothing to reach: the final total of luck, −3.750, is not surely above the base"
    )


def test_the_end_is_shown_beside_base_and_real(script):
    found = script.summary(results({"nft": [[-2.0, 1.0], [-2.0, 1.0]], "grpo": [[-3.0, -4.5]]}), "algorithm")
    assert found.head[:4] == ["algorithm", "iterations", "total", "total − base"]
    rows = {row[0]: row[1:] for row in found.rows}
    assert list(rows) == ["nft", "grpo", "base", "real"]
    assert rows["nft"][0] == "20" and rows["nft"][1].startswith("1.00 (0.")
    assert rows["nft"][2] == "+5.00 (+5.00, +5.00)"  # paired: what the contexts have in common is no chance
    assert rows["nft"][4] == "11.0 (11.0 to 11.0)" and rows["grpo"][4] == "5.50" and rows["real"][4] == "12.0"
    assert "2 seeds and 6 contexts" in found.title


def test_gains_are_marked_where_the_interval_leaves_zero(script):
    found = script.gains(results({"up": [[1.0]], "down": [[-4.5]], "unsure": [[-3.0], [-4.9]]}), "setting")
    assert [row[1] for row in found.rows] == ["+5.000 ▲", "−0.500 ▼", "+0.050 ·"]
    assert all(cell == "0.000 ·" for row in found.rows for cell in [c.lstrip("+") for c in row[2:]])
    assert found.turned().head == ["setting", "up", "down", "unsure"] and found.turned().turned() == found


def test_candidates_are_compared_with_one_of_them_seed_by_seed(script):
    made = results({"usual": [[-3.0], [1.0]], "better": [[-2.0], [2.0]], "unsure": [[1.0], [-3.0]]})
    found = script.gains(made, "setting", over="usual")
    assert [row[:2] for row in found.rows] == [["better", "+1.000 ▲"], ["unsure", "+0.000 ·"]]
    assert found.title.startswith("Gain over usual;")


def test_seeds_count_as_chance(script):
    alike, apart = (script.gain(results({"nft": seeds}), "nft", "total") for seeds in ([[0.0]] * 2, [[-1.0], [1.0]]))
    assert (alike.low, alike.high) == pytest.approx((4, 4))
    assert (apart.low, apart.high) == pytest.approx((4 - 12.706, 4 + 12.706), abs=1e-3)


def test_what_is_published(script, table, tmp_path, capsys):
    totals = {"nft": [[-2.0, 1.0], [-1.0, 0.0]], "grpo": [[-3.0, -2.0], [-3.0, -2.5]]}
    options = {"label": "algorithm", "notes": ["a note"]}
    script.publish(results(totals), table(totals), tmp_path / "out", usual="nft", **options)
    text, shown = (tmp_path / "out" / "table.md").read_text(), capsys.readouterr().out
    assert "| algorithm | iterations |" in text and text.endswith("\n- a note\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[:6]} == {7} and {line.count("|") for line in lines[6:]} == {12}
    assert "a note" in shown and "grpo" in shown and "Gain over nft" in shown and "Gain over nft" in text
    script.publish(results(totals), table(totals), tmp_path / "out", usual="awm", **options)
    assert "Gain over awm" not in (tmp_path / "out" / "table.md").read_text()
    race = (tmp_path / "out" / "picture.png").read_bytes()
    heat = script.heat(results(totals))
    assert race.startswith(b"\x89PNG") and heat.startswith(b"\x89PNG") and race != heat

"""The tables of several trainings."""

import copy

import pytest

from algorithms.evaluation.stored_run import save_evaluation
from examples.studies.show_seeds import ShowSeedsConfig, main, mean_table, share_table
from tests.algorithms.evaluation import evaluation_toys
from tests.algorithms.evaluation.evaluation_toys import interval


@pytest.fixture
def evaluation() -> dict:
    """Trainings s0 and s1, 0.2 and 0.4 above the base in MoA; s1 with half of its Frechet distance."""
    content = evaluation_toys.evaluation()
    rows, paired, gap = content["rows"], content["paired"], content["gap"]
    for name, gain in (("s0", 0.2), ("s1", 0.4)):
        rows[name] = copy.deepcopy(rows["rl"])
        rows[name]["moa"] = interval(rows["base"]["moa"]["mean"] + gain, 0, 1)
        paired[f"{name}-base"], gap[f"{name}-base"] = copy.deepcopy(paired["rl-base"]), copy.deepcopy(gap["rl-base"])
    paired["s0-base"]["total"] = interval(1.25, 1, 2)
    rows["s1"]["frechet"] = rows["base"]["frechet"] / 2
    gap["s1-base"]["share"] = interval(0.5, 0.4, 0.6)
    del rows["rl"], paired["rl-base"], gap["rl-base"]
    return content


def test_a_figure_is_the_mean_of_the_trainings_with_the_lowest_and_the_highest_gain(evaluation):
    base = evaluation["rows"]["base"]["moa"]["mean"]
    lines = {line[0]: line[1:] for line in mean_table(evaluation, ["s0", "s1"]).rows}
    assert lines["MoA"][:2] == [f"{base:.3f}", f"{base + 0.3:.3f}"]
    assert lines["MoA"][-1] == "+0.300 (+0.200 to +0.400)"
    assert "NFE" not in lines
    lines = {line[0]: line[-1] for line in mean_table(evaluation, ["s1"]).rows}
    assert lines["MoA"] == "+0.400"  # one training has no range


def test_each_training_has_its_shares_and_ratios(evaluation):
    table = share_table(evaluation, ["s0", "s1"])
    first, second = (dict(zip(table.head, line, strict=True)) for line in table.rows)
    assert first["total"] == "+1.25" and second["all rewards"] == "50 % (40 to 60)"
    assert second["Fréchet"] == "0.50"


def test_trained_rows_are_printed_and_others_refused(evaluation, tmp_path, capsys):
    save_evaluation(evaluation, tmp_path / "evaluation.json")
    main(ShowSeedsConfig(evaluation=tmp_path))
    assert capsys.readouterr().out.startswith("Mean of s0, s1:")
    with pytest.raises(ValueError, match="no trained row base; it has s0, s1"):
        main(ShowSeedsConfig(evaluation=tmp_path, rows=("s0", "base")))

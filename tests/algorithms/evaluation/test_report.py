import copy
import io
import re

import pytest
from rich.console import Console

from algorithms.evaluation.pages.report_page import page as draw_page
from algorithms.evaluation.report import lines, number, sections, tables
from algorithms.evaluation.stored_run import StoredRun
from tests.algorithms.evaluation import evaluation_toys
from tests.algorithms.evaluation.evaluation_toys import REWARDS, interval, row


@pytest.fixture
def evaluation() -> dict:
    return evaluation_toys.evaluation()


def page(evaluation: dict) -> str:
    return draw_page(StoredRun(evaluation=evaluation))


def terminal(evaluation: dict, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables(evaluation):
        console.print(table)
    return console.export_text()


def test_a_row_without_a_pair_gets_a_note(evaluation):
    assert "contexts of its own" not in terminal(evaluation) + page(evaluation)
    evaluation["rows"]["theirs"] = row(0.7, n_contexts=40)
    for text in (terminal(evaluation), page(evaluation)):
        assert "On contexts of its own: theirs (40)." in text
        assert "rl (32)" not in text and "real (32)" not in text


def test_without_a_judge_it_is_said_what_is_absent_and_how_to_fit_one(evaluation):
    assert "No judge" not in terminal(evaluation) + page(evaluation)
    for figures in evaluation["rows"].values():
        figures.pop("frechet", None)
    for text in (terminal(evaluation, 300), page(evaluation)):
        assert "No judge knows these cells" in text and "--judge" in text


def test_given_images_are_not_checked(evaluation):
    evaluation["rows"]["theirs"], evaluation["paired"]["theirs-base"] = row(0.7), evaluation["paired"]["rl-base"]
    evaluation["gap"]["theirs-base"] = evaluation["gap"]["rl-base"]
    assert "theirs: acceptance checks" in terminal(evaluation)
    evaluation["config"]["images"] = ["theirs"]
    assert "theirs: acceptance" not in terminal(evaluation) and "rl: acceptance" in terminal(evaluation)


def test_marks_and_bars_show_better_worse_and_neither(evaluation):
    gain = evaluation["paired"]["rl-base"]
    gain["moa"], gain["containment"] = interval(-0.2, -0.3, -0.1), interval(0.1, -0.1, 0.3)
    found = {line.label: line.differences[0] for line in lines(sections(evaluation)[1], evaluation)}
    assert (found["MoA"].mark, found["containment"].mark, found["MoA, judge"].mark) == ("▼", "·", "▲")
    assert found["MoA"].bar[2] < 50 < found["MoA, judge"].bar[0]  # drawn left and right of zero


def test_a_reward_of_negative_weight_that_rises_is_marked_as_worse(evaluation):
    evaluation["rewards"][0]["weight"] = -1.0
    found = {line.label: line.differences[0] for line in lines(sections(evaluation)[1], evaluation)}
    assert [found[name].mark for name in ("MoA", "MoA, judge", "containment")] == ["▼", "▼", "▲"]
    assert found["MoA"].bar[0] > 50 and found["MoA"].text == "+0.200"  # drawn as it is


def test_bars_of_a_section_share_one_axis_and_stay_inside(evaluation):
    evaluation["paired"]["rl-base"]["moa"] = interval(2.0, 1.0, 4.0)
    found = {line.label: line.differences[0].bar for line in lines(sections(evaluation)[1], evaluation)}
    assert 90 < found["MoA"][2] <= 100
    assert (found["MoA"][1] - 50) / (found["containment"][1] - 50) == pytest.approx(10)


def test_terminal_table_shows_every_row_and_the_difference(evaluation):
    text = terminal(evaluation)
    assert "Evaluation on 32 held-out contexts" in text
    (line,) = [part for part in text.splitlines() if part.strip().startswith("total")]
    assert re.sub(" +", " ", line).strip() == "total 1.000 1.200 1.300 +0.200 (+0.100, +0.300) ▲"
    assert "rl: acceptance checks" in text and "+0.200 (+0.100, +0.300)" in text


def test_controls_are_shown_but_not_checked(evaluation):
    control = copy.deepcopy(evaluation["rows"]["base"])
    evaluation["rows"]["flipped-reward"] = control
    evaluation["paired"]["flipped-reward-base"] = copy.deepcopy(evaluation["paired"]["rl-base"])
    evaluation["gap"]["flipped-reward-base"] = evaluation["gap"]["rl-base"]
    text = terminal(evaluation, width=120)
    assert "flipped-reward − base" in text and "flipped-reward: acceptance" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (256, "256"),
        (0.0, "0"),
        (4.2149, "4.21"),
        (-0.002134, "−0.00213"),
        (123.4, "123"),
        (9.999, "10.00"),
    ],
)
def test_numbers_keep_three_digits(value, text):
    assert number(value) == text


def test_fixed_decimals_have_no_minus_zero():
    assert number(-0.0001, decimals=3, sign=True) == "+0.000"


def test_rewards_are_grouped_by_unit_and_own_ones_come_in_a_section_of_their_own(evaluation):
    titles = [section.title for section in sections(evaluation)]
    evaluation["rewards"].append(
        {
            "name": "sharpness",
            "label": "sharpness",
            "unit": "custom reward",
            "weight": 1.0,
            "judge": False,
            "measure": None,
        }
    )
    evaluation["rows"]["rl"]["sharpness"] = interval(0.7, 0.6, 0.8)
    found = sections(evaluation)
    assert [section.title for section in found] == [*titles[:3], "Further rewards", *titles[3:]]
    assert found[3].figures == {"sharpness": "sharpness"}
    assert list(found[1].figures) == ["moa", "judge_moa", "containment", "judge_containment"]
    assert list(found[2].figures) == REWARDS[2:]
    (line,) = lines(found[3], evaluation)
    assert [mean for mean, _ in line.cells] == ["–", "0.700", "–"]
    assert all("sharpness" in text for text in (terminal(evaluation), page(evaluation)))


SAMPLERS = (("base", "base", 4), ("base-8", "base", 16), ("rl", "rl", 4), ("rl-8", "rl", 16))


def with_samplers(evaluation: dict) -> dict:
    """base and rl by another sampler too."""
    rows, gap = evaluation["rows"], evaluation["gap"]["rl-base"]
    evaluation["rows"] = {name: rows[kind] | {"nfe": nfe} for name, kind, nfe in SAMPLERS} | {"real": rows["real"]}
    for pair in ("base-8-base", "rl-8-base", "rl-8-base-8"):
        evaluation["paired"][pair] = copy.deepcopy(evaluation["paired"]["rl-base"])
        evaluation["gap"][pair] = copy.deepcopy(gap)
    evaluation["baselines"] = {"rl-8": "base-8"}
    evaluation["config"]["base by other samplers"] = ["base-8"]
    return evaluation


def test_rows_by_the_same_sampler_are_compared_and_checked_against_each_other(evaluation):
    evaluation = with_samplers(evaluation)
    evaluation["paired"]["rl-8-base-8"]["total"] = interval(0.77, 0.7, 0.8)
    evaluation["gap"]["rl-8-base-8"]["share"] = interval(0.31, 0.2, 0.4)
    for text in (terminal(evaluation, width=200), page(evaluation)):
        assert "+0.770" in text and "31 % (20 to 40)" in text
        checked = re.findall(r"(\S.*): acceptance checks", text)
        assert [re.sub("<.*?>", "", name) for name in checked] == ["rl", "rl-8 − base-8"]


def test_many_rows_and_differences_get_a_table_each(evaluation):
    assert "Paired differences" not in terminal(evaluation)
    rows, differences = (
        terminal(with_samplers(evaluation), width=200).split("held-out contexts")[1].split("Paired diff")
    )
    heads = [next(line for line in part.splitlines() if "base-8" in line) for part in (rows, differences)]
    assert heads[0].split() == ["base", "base-8", "rl", "rl-8", "real"]
    pairs = ["base-8 − base", "rl − base", "rl-8 − base", "rl-8 − base-8"]
    assert re.split("  +", heads[1].strip()) == pairs


def test_evaluations_of_the_network_are_a_figure_of_a_row(evaluation):
    rows = terminal(with_samplers(evaluation), width=200).split("Paired differences")[0]
    (line,) = [line for line in rows.splitlines() if line.strip().startswith("NFE")]
    assert line.split() == ["NFE", "4", "16", "4", "16", "–"]

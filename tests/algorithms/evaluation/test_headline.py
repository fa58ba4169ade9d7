"""What a report says first, and which differences it shows."""

import pytest

from algorithms.evaluation.headline import Pair, headline, mean_of, percent_interval, shown_pairs
from tests.algorithms.evaluation.evaluation_toys import evaluation, interval


def test_the_headline_is_the_share_of_all_rewards_and_each_judges_own():
    found = evaluation()
    found["gap"]["rl-base"]["own"] |= {
        "judge_moa": interval(0.417, 0.2, 0.5),
        "judge_containment": interval(None, None, None),
    }
    columns, lines = headline(found)
    assert columns == ["all rewards", "MoA, judge", "containment, judge"]
    assert lines == {"rl − base": ["65 % (50 to 75)", "42 % (20 to 50)", "–"]}


def test_columns_are_the_rewards_that_have_a_judge():
    found = evaluation()
    found["rewards"] = [{"name": "sharpness", "label": "sharpness of mine", "judge": True}]
    found["gap"]["rl-base"]["own"] = {"sharpness": interval(0.9, 0.8, 1.0), "judge_sharpness": interval(0.1, 0.0, 0.2)}
    columns, lines = headline(found)
    assert columns == ["all rewards", "sharpness of mine, judge"] and lines["rl − base"][1] == "10 % (0 to 20)"


def test_without_real_images_there_is_no_gap_to_speak_of():
    found = evaluation()
    del found["gap"]
    assert headline(found).lines == {}


def test_pairs_are_those_of_rows_whatever_they_are_called():
    found = evaluation()
    gain, row = found["paired"]["rl-base"], found["rows"]["rl"]
    found["rows"] = dict.fromkeys(("base", "real", "real-ft", "x-base2", "alone"), row)
    found["paired"] = dict.fromkeys(("real-base", "real-ft-base", "x-base2-base", "x-base2-real-ft"), gain)
    found["baselines"] = {"x-base2": "real-ft"}
    assert shown_pairs(found) == [Pair("real-ft", "base"), Pair("x-base2", "base"), Pair("x-base2", "real-ft")]
    assert [pair.title for pair in shown_pairs(found)][1:] == ["x-base2 − base", "x-base2 − real-ft"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (interval(0.424, 0.3, 0.5), "42 % (30 to 50)"),
        (interval(-0.1, -0.25, 0.0), "−10 % (−25 to 0)"),
        (interval(0.4, None, None), "40 % (– to –)"),
        (interval(None, None, None), "–"),
        (None, "–"),
        (interval(-0.001, -0.004, 0.1), "0 % (0 to 10)"),  # no minus before a zero
    ],
)
def test_shares_are_percentages_with_their_interval(share, text):
    assert percent_interval(share) == text


def test_the_mean_of_a_figure_with_and_without_an_interval():
    assert [mean_of(x) for x in (interval(0.4, 0.3, 0.5), 2.0, None)] == [0.4, 2.0, None]

import copy
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from algorithms.report import SECTIONS, Gallery, lines, number, page, save_page, shown_pairs, tables
from algorithms.verdict import REWARDS, verdict


def interval(mean: float, low: float, high: float) -> dict:
    return {"mean": mean, "ci": [low, high]}


def row(total: float, **numbers) -> dict:
    figures = {name: interval(total, total - 0.1, total + 0.1) for name in ("total", *REWARDS)}
    figures |= {"judge_moa": interval(0.5, 0.4, 0.6), "judge_containment": interval(0.9, 0.8, 1.0)}
    bare = {"frechet": 4.0, "kernel": 0.02, "diversity": 1.0, "moa_accuracy": 0.6, "w1_mean": 0.5, "n_contexts": 32}
    return figures | bare | numbers


@pytest.fixture
def evaluation() -> dict:
    gain = {name: interval(0.2, 0.1, 0.3) for name in ("total", *REWARDS, "judge_moa", "judge_containment")}
    numbers = {"frechet": -0.5, "kernel": 0.001, "diversity": -0.1, "moa_accuracy": 0.1, "w1_mean": -0.1}
    return {
        "rows": {"base": row(1.0), "rl": row(1.2, frechet=3.5, diversity=0.9), "real": row(1.3, diversity=None)},
        "paired": {"rl-base": gain | numbers | {"n_contexts": 32}, "real-base": gain | numbers | {"n_contexts": 32}},
        "config": {"preset": "default", "seed": 0},
    }


def terminal(evaluation: dict, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables(evaluation):
        console.print(table)
    return console.export_text()


def test_a_row_without_a_pair_is_said_to_stand_by_itself(evaluation):
    assert "contexts of its own" not in terminal(evaluation) + page(evaluation)
    evaluation["rows"]["theirs"] = row(0.7, n_contexts=40)
    for text in (terminal(evaluation), page(evaluation)):
        assert "On contexts of its own: theirs (40)." in text
        assert "rl (32)" not in text and "real (32)" not in text


def test_given_images_had_nothing_to_reach(evaluation):
    evaluation["rows"]["theirs"], evaluation["paired"]["theirs-base"] = row(0.7), evaluation["paired"]["rl-base"]
    assert "theirs: what it had to reach" in terminal(evaluation)
    evaluation["config"]["images"] = ["theirs"]
    assert "theirs: what" not in terminal(evaluation) and "rl: what" in terminal(evaluation)


def answers(evaluation: dict) -> dict[str, bool | None]:
    names = ("total", "falls", "frechet", "kernel", "diversity", "w1", "judge_moa", "judge_containment", "gap")
    return dict(zip(names, [check.kept for check in verdict(evaluation)], strict=True))


# -------------------------------------------------------------------------------------------------------- verdict


def test_everything_kept(evaluation):
    assert set(answers(evaluation).values()) == {True}


@pytest.mark.parametrize(
    ("broken", "where", "value"),
    [
        ("total", ("paired", "rl-base", "total"), interval(0.2, -0.01, 0.4)),
        ("falls", ("paired", "rl-base", "cell_size"), interval(-0.2, -0.3, -0.1)),
        ("frechet", ("rows", "rl", "frechet"), 4.41),
        ("kernel", ("rows", "rl", "kernel"), 0.0221),
        ("diversity", ("rows", "rl", "diversity"), 0.79),
        ("w1", ("paired", "rl-base", "w1_mean"), 0.01),
        ("judge_moa", ("paired", "rl-base", "judge_moa"), interval(0.11, 0.05, 0.2)),
        ("judge_containment", ("paired", "rl-base", "judge_containment"), interval(0.11, 0.05, 0.2)),
        ("gap", ("rows", "real", "total"), interval(1.41, 1.3, 1.5)),
    ],
)
def test_each_promise_is_broken_by_its_own_figure_alone(evaluation, broken, where, value):
    evaluation[where[0]][where[1]][where[2]] = value
    assert [name for name, kept in answers(evaluation).items() if not kept] == [broken]


def test_bounds_themselves_are_kept(evaluation):
    evaluation["rows"]["rl"] |= {"frechet": 4.4, "kernel": 0.022, "diversity": 0.8}
    evaluation["paired"]["rl-base"]["judge_moa"] = interval(0.12, -0.1, 0.3)  # 60 % of 0.2
    evaluation["paired"]["rl-base"]["cell_size"] = interval(-0.1, -0.3, 0.1)  # not significantly worse
    assert set(answers(evaluation).values()) == {True}


def test_questions_that_do_not_arise_are_neither_kept_nor_broken(evaluation):
    evaluation["paired"]["rl-base"]["moa"] = interval(-0.01, -0.1, 0.1)
    evaluation["rows"]["real"]["total"] = interval(0.9, 0.8, 1.0)
    evaluation["rows"]["base"]["diversity"] = None
    found = answers(evaluation)
    assert (found["judge_moa"], found["gap"], found["diversity"]) == (None, None, None)


def test_a_kernel_distance_below_zero_is_compared_by_difference(evaluation):
    evaluation["rows"]["base"]["kernel"] = -0.001
    assert not answers(evaluation)["kernel"]
    evaluation["rows"]["rl"]["kernel"] = -0.00105  # more than 1.1 x the old one, which would mean nothing
    assert answers(evaluation)["kernel"]


# ---------------------------------------------------------------------------------------------------------- table


def test_marks_and_bars_show_better_worse_and_neither(evaluation):
    gain = evaluation["paired"]["rl-base"]
    gain["moa"], gain["containment"] = interval(-0.2, -0.3, -0.1), interval(0.1, -0.1, 0.3)
    found = {line.label: line.differences[0] for line in lines(SECTIONS[1], evaluation)}
    assert (found["MoA"].mark, found["containment"].mark, found["MoA, judge"].mark) == ("▼", "·", "▲")
    assert found["MoA"].bar[2] < 50 < found["MoA, judge"].bar[0]  # drawn left and right of zero


def test_bars_of_a_section_share_one_axis_and_stay_inside(evaluation):
    evaluation["paired"]["rl-base"]["moa"] = interval(2.0, 1.0, 4.0)
    found = {line.label: line.differences[0].bar for line in lines(SECTIONS[1], evaluation)}
    assert 90 < found["MoA"][2] <= 100
    assert (found["MoA"][1] - 50) / (found["containment"][1] - 50) == pytest.approx(10)


def test_terminal_table_shows_every_row_and_the_difference(evaluation):
    text = terminal(evaluation)
    assert "Evaluation on 32 held-out contexts" in text
    (line,) = [part for part in text.splitlines() if part.strip().startswith("total")]
    assert re.sub(" +", " ", line).strip() == "total 1.000 1.200 1.300 +0.200 (+0.100, +0.300) ▲"
    assert "rl: what it had to reach" in text and "+0.200 (+0.100, +0.300)" in text


def test_controls_are_shown_but_promise_nothing(evaluation):
    control = copy.deepcopy(evaluation["rows"]["base"])
    evaluation["rows"]["flipped-reward"] = control
    evaluation["paired"]["flipped-reward-base"] = copy.deepcopy(evaluation["paired"]["rl-base"])
    assert shown_pairs(evaluation) == ["rl-base", "flipped-reward-base"]
    text = terminal(evaluation, width=120)
    assert "flipped-reward − base" in text and "flipped-reward: what" not in text


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


# ----------------------------------------------------------------------------------------------------------- page


class Addresses(HTMLParser):
    """Collects what a page would fetch, and its pictures."""

    def __init__(self):
        super().__init__()
        self.fetched, self.pictures = [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href"):
                (self.pictures if value.startswith("data:image/png;base64,") else self.fetched).append(value)


def gallery() -> Gallery:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    return Gallery(["Eg5 inhibitors", "Epithelial"], {"control": pictures, "base": pictures, "rl": pictures[::-1]})


def test_page_holds_all_it_needs(evaluation):
    html = page(evaluation, gallery(), phases={"sample": 30.0, "measure": 10.0})
    addresses = Addresses()
    addresses.feed(html)
    assert len(addresses.pictures) == 6 and addresses.fetched == []
    assert not re.search(r"https?://|@import|url\(", html)
    first, second = addresses.pictures[:3], addresses.pictures[3:]
    assert first[0] == first[1] == second[2] and first[2] == second[0] != first[0]  # row by row, column by column
    assert html.count('class="span" style="left: 66.00%; width: 32.00%"') == len(REWARDS) + 3  # 0.1 to 0.3 of 0.3
    for text in ("Eg5 inhibitors", "+0.200", "1.200", "30.0 s, 75 %", "preset", "Half of the gap"):
        assert text in html


def test_page_escapes_what_comes_from_outside(evaluation):
    evaluation["config"]["model"] = "<script>alert(1)</script>"
    assert "<script>" not in page(evaluation)


def test_page_does_without_pictures_phases_and_verdicts(evaluation):
    only_base = {"rows": {"base": evaluation["rows"]["base"]}, "paired": {}, "config": {}}
    html = page(only_base)
    assert "<img" not in html and "had to reach" not in html and "Configuration" not in html


def test_pictures_must_match_their_labels(evaluation):
    with pytest.raises(ValueError, match=r"need 1 pictures in each column, one a label; got \{'control': 2"):
        page(evaluation, Gallery(["Eg5 inhibitors"], gallery().columns))


def test_page_is_saved_whole(evaluation, tmp_path):
    save_page(page(json.loads(json.dumps(evaluation))), tmp_path / "out" / "evaluation.html")
    assert (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8").rstrip().endswith("</html>")

import pytest

from algorithms.evaluation.checks import acceptance_checks, verdict
from tests.algorithms.evaluation.evaluation_toys import evaluation, interval

NAMES = ("total", "falls", "frechet", "kernel", "diversity", "w1", "judge_moa", "judge_containment", "gap")


def answers(evaluation: dict) -> dict[str, bool | None]:
    return dict(zip(NAMES, [check.passed for check in acceptance_checks(evaluation)], strict=True))


def test_a_good_run_passes_everything():
    assert set(answers(evaluation()).values()) == {True}


@pytest.mark.parametrize(
    ("failed", "where", "value"),
    [
        ("total", ("paired", "rl-base", "total"), interval(0.2, -0.01, 0.4)),
        ("falls", ("paired", "rl-base", "cell_size"), interval(-0.2, -0.3, -0.1)),
        ("frechet", ("rows", "rl", "frechet"), 4.41),
        ("kernel", ("rows", "rl", "kernel"), 0.0221),
        ("diversity", ("rows", "rl", "diversity"), 0.79),
        ("w1", ("paired", "rl-base", "w1_mean"), 0.01),
        ("judge_moa", ("paired", "rl-base", "judge_moa"), interval(0.11, -0.01, 0.2)),
        ("judge_moa", ("paired", "rl-base", "judge_margin_moa"), interval(-0.05, -0.1, -0.01)),
        ("judge_containment", ("paired", "rl-base", "judge_margin_containment"), interval(-0.05, -0.1, -0.01)),
        ("gap", ("gap", "rl-base", "share"), interval(0.49, 0.4, 0.6)),
    ],
)
def test_each_check_fails_by_its_own_figure_alone(failed, where, value):
    changed = evaluation()
    changed[where[0]][where[1]][where[2]] = value
    assert [name for name, passed in answers(changed).items() if not passed] == [failed]


def test_the_bounds_themselves_pass():
    changed = evaluation()
    changed["rows"]["rl"] |= {"frechet": 4.4, "kernel": 0.022, "diversity": 0.8}
    changed["paired"]["rl-base"]["judge_margin_moa"] = interval(-0.05, -0.1, 0.0)  # not surely less than 60 %
    changed["gap"]["rl-base"]["share"] = interval(0.5, 0.1, 0.9)
    changed["paired"]["rl-base"]["cell_size"] = interval(-0.1, -0.3, 0.1)  # not significantly worse
    assert set(answers(changed).values()) == {True}


def negative(name: str) -> dict:
    """The toy's evaluation, but a reward has a negative weight: all that rises in it is worse."""
    changed = evaluation()
    next(reward for reward in changed["rewards"] if reward["name"] == name)["weight"] = -1.0
    return changed


def test_less_of_a_reward_of_negative_weight_is_better():
    changed = negative("moa")
    rewards, rise, fall = changed["rewards"], interval(0.2, 0.1, 0.3), interval(-0.2, -0.3, -0.1)
    for name in ("moa", "judge_moa", "judge_margin_moa"):
        assert [verdict(name, x, rewards) for x in (rise, fall, interval(0.1, -0.1, 0.3))] == [-1, 1, 0]
    for name in ("total", "containment", "judge_containment"):
        assert [verdict(name, x, rewards) for x in (rise, fall, interval(None, None, None))] == [1, -1, 0]


def test_a_reward_of_negative_weight_falls_when_it_rises():
    assert not answers(negative("cell_size"))["falls"]
    assert answers(negative("moa"))["judge_moa"] is None  # it got worse: there is nothing to confirm


@pytest.mark.parametrize(
    ("judge", "margin", "passed"),
    [
        (interval(-0.2, -0.3, -0.1), interval(-0.08, -0.15, 0.0), True),
        (interval(0.2, 0.1, 0.3), interval(-0.08, -0.15, 0.0), False),  # the judge sees the opposite
        (interval(-0.2, -0.3, -0.1), interval(0.08, 0.01, 0.15), False),  # and here too little
    ],
)
def test_the_judge_of_a_reward_of_negative_weight_has_its_sign(judge, margin, passed):
    changed = negative("moa")
    changed["paired"]["rl-base"] |= {"moa": interval(-0.2, -0.3, -0.1), "judge_moa": judge, "judge_margin_moa": margin}
    found = answers(changed)
    assert found["judge_moa"] is passed and found["falls"]


def test_checks_that_do_not_apply_neither_pass_nor_fail():
    changed = evaluation()
    changed["paired"]["rl-base"]["moa"] = interval(-0.01, -0.1, 0.1)
    changed["gap"]["rl-base"]["share"] = interval(None, None, None)
    changed["rows"]["base"]["diversity"] = None
    found = answers(changed)
    assert (found["judge_moa"], found["gap"], found["diversity"]) == (None, None, None)
    del changed["gap"]  # there are no real images
    assert len(acceptance_checks(changed)) == len(NAMES) - 1


def test_an_undefined_total_is_no_rise():
    changed = evaluation()
    changed["paired"]["rl-base"]["total"] = interval(None, None, None)
    assert answers(changed)["total"] is None


def test_a_gain_that_may_be_chance_asks_for_no_confirmation():
    changed = evaluation()
    changed["paired"]["rl-base"] |= {"moa": interval(0.2, -0.01, 0.4), "judge_moa": interval(-0.2, -0.3, -0.1)}
    assert answers(changed)["judge_moa"] is None


def test_figures_of_a_confirmation_are_those_behind_it():
    (check,) = [check for check in acceptance_checks(evaluation()) if "gain in MoA" in check.criterion]
    assert check.figures == "+0.200 (+0.100, +0.300) of +0.200; over 60%: (+0.000, +0.150)"


def test_a_row_is_checked_against_the_baseline_that_is_asked_for():
    changed = evaluation()
    changed["rows"]["base-8"] = changed["rows"]["base"] | {"frechet": 3.0}
    changed["paired"]["rl-base-8"] = changed["paired"]["rl-base"]
    changed["gap"]["rl-base-8"] = {"share": interval(0.1, 0.0, 0.2)}
    checks = dict(zip(NAMES, acceptance_checks(changed, baseline="base-8"), strict=True))
    assert [name for name, check in checks.items() if not check.passed] == ["frechet", "gap"]
    assert checks["gap"].figures == "10 % (0 to 20)"


def test_kernel_distance_below_zero_is_compared_by_difference():
    changed = evaluation()
    changed["rows"]["base"]["kernel"] = -0.001
    assert not answers(changed)["kernel"]
    changed["rows"]["rl"]["kernel"] = -0.00105  # more than 1.1 x the old one, which would mean nothing
    assert answers(changed)["kernel"]


def test_rewards_and_judges_are_those_of_the_evaluation():
    changed = evaluation()
    sharpness = {"name": "sharpness", "label": "sharpness of mine", "weight": 1.0, "judge": True}
    changed["rewards"] = [sharpness]
    changed["paired"]["rl-base"] |= {"sharpness": interval(0.5, 0.4, 0.6), "judge_sharpness": interval(0.1, 0.0, 0.2)}
    changed["paired"]["rl-base"]["judge_margin_sharpness"] = interval(-0.2, -0.3, -0.1)
    changed["paired"]["rl-base"]["moa"] = interval(-0.2, -0.3, -0.1)  # not reported, so it cannot fail
    failed = [check for check in acceptance_checks(changed) if not check.passed]
    assert [check.criterion for check in failed] == ["Judge sees 60% of the gain in sharpness of mine"]
    changed["paired"]["rl-base"]["sharpness"] = interval(-0.5, -0.6, -0.4)
    (falls,) = [check for check in acceptance_checks(changed) if check.passed is False]
    assert falls.figures == "sharpness of mine"

"""Learning rates over a run, and which runs share their first ones."""

import pytest

from algorithms.schedule import Plan, continues, cooldown_start, learning_rate_factor


def test_the_learning_rate_rises_stays_and_falls():
    factors = [learning_rate_factor(step, 100, 10, 0.2) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[10:81] == [1.0] * 71
    assert factors[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])


def test_without_a_cooldown_it_never_falls():
    assert [learning_rate_factor(step, 5, 0, 0.0) for step in range(5)] == [1.0] * 5 and cooldown_start(5, 0.0) == 5


PLANS = [Plan(steps, cooldown) for steps in (12, 20) for cooldown in (0.0, 1 / 3, 0.5, 1.0)]


def test_a_cooldown_of_a_part_of_an_iteration_is_rounded_down():
    assert [cooldown_start(steps, 1 / 3) for steps in (2, 3, 11, 20)] == [2, 2, 8, 14]


@pytest.mark.parametrize("before", PLANS)
@pytest.mark.parametrize("now", PLANS)
def test_runs_continue_each_other_while_their_learning_rates_agree(before, now):
    rates = [
        [learning_rate_factor(step, steps, 0, cooldown) for step in range(steps)] for steps, cooldown in (before, now)
    ]
    fall = min(cooldown_start(*before), cooldown_start(*now))
    for done in range(before.steps + 1):
        agree = done <= now.steps and rates[0][:done] == rates[1][:done]
        assert continues(done, before, now) == agree or done == fall + 1  # the factor of the first to fall is still 1

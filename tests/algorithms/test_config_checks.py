import math

import pytest

from algorithms.config_checks import check_above, check_at_least, check_descent, check_optimizer_steps
from algorithms.train_config import OptimConfig

DESCENT = {"learning_rate": 1e-3, "cooldown": 1.0, "weight_decay": 0.0, "max_grad_norm": math.inf, "ema_decay": 0.0}


def test_a_setting_below_its_bound_is_named():
    check_at_least(2, contexts=2, group_size=3)
    with pytest.raises(ValueError, match="contexts must be at least 2, got 1"):
        check_at_least(2, group_size=2, contexts=1)


def test_a_setting_at_its_bound_is_named():
    check_above(0, learning_rate=1e-9)
    with pytest.raises(ValueError, match=r"save_minutes must be above 0, got 0\.0"):
        check_above(0, learning_rate=1.0, save_minutes=0.0)


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("learning_rate", -1.0, "above 0"),
        ("learning_rate", math.nan, "above 0"),
        ("max_grad_norm", 0.0, "above 0"),
        ("weight_decay", -0.1, "at least 0"),
        ("cooldown", 1.5, "from 0 to 1"),
        ("ema_decay", 1.0, "at least 0 and below 1"),
        ("ema_decay", -0.1, "at least 0 and below 1"),
    ],
)
def test_settings_that_cannot_train_are_named(name, value, bound):
    check_descent(OptimConfig(**DESCENT))
    with pytest.raises(ValueError, match=f"{name} must be {bound}.* got {value}"):
        check_descent(OptimConfig(**DESCENT | {name: value}))


def test_each_optimizer_step_needs_a_row_of_every_group():
    check_optimizer_steps(6, 6)
    with pytest.raises(ValueError, match="optimizer_steps must be at most 6, the rows of a group; got 7"):
        check_optimizer_steps(7, 6)

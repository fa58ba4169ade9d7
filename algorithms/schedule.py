"""Learning rate schedule: linear warm-up, constant, linear cooldown to 0 (warmup-stable-decay).

Until the cooldown starts, runs of different length are equal, so that a run can be made longer from there.
"""

import math
from typing import NamedTuple


def cooldown_start(steps: int, cooldown: float) -> int:
    """First step with a falling learning rate; `steps` if there is none."""
    return steps - math.floor(cooldown * steps)


def learning_rate_factor(step: int, steps: int, warmup_steps: int, cooldown: float) -> float:
    """Linear warm-up to 1 over `warmup_steps`, constant, linear decay to 0 over the last fraction `cooldown`."""
    left = (steps - step) / max(1, steps - cooldown_start(steps, cooldown))
    return min(1.0, (step + 1) / max(1, warmup_steps), left)


class Plan(NamedTuple):
    """Length of a run, and the fraction of it, at its end, over which the learning rate falls."""

    steps: int
    cooldown: float


def shared_steps(before: Plan, now: Plan) -> int:
    """Length of the start in which neither plan's learning rate falls."""
    return min(cooldown_start(*before), cooldown_start(*now))


def continues(done: int, before: Plan, now: Plan) -> bool:
    """Whether a run that has done so many steps of one plan is also the start of a run of another."""
    return before == now or done <= shared_steps(before, now)

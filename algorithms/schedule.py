"""Learning rate schedule: linear warm-up, constant, linear cooldown to 0 (warmup-stable-decay).

Until the cooldown starts, runs of different length are equal, so that a run can be made longer from there.
"""

import math


def cooldown_start(steps: int, cooldown: float) -> int:
    """First step with a falling learning rate; `steps` if there is none."""
    return steps - math.floor(cooldown * steps)


def learning_rate_factor(step: int, steps: int, warmup_steps: int, cooldown: float) -> float:
    """Linear warm-up to 1 over `warmup_steps`, constant, linear decay to 0 over the last fraction `cooldown`."""
    left = (steps - step) / max(1, steps - cooldown_start(steps, cooldown))
    return min(1.0, (step + 1) / max(1, warmup_steps), left)


def continues(done: int, planned: int, steps: int, cooldown: float) -> bool:
    """Whether a run that has done so many of its planned steps is also the start of a run of `steps`."""
    return planned == steps or done <= cooldown_start(min(planned, steps), cooldown)

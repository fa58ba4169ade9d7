"""Checks of settings, at once and not when a run needs them. nan is within no bound."""


def check_at_least(bound: float, **values: float) -> None:
    """Raise ValueError for a setting below the bound."""
    for name, value in values.items():
        if not value >= bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def check_above(bound: float, **values: float) -> None:
    """Raise ValueError for a setting that is not above the bound."""
    for name, value in values.items():
        if not value > bound:
            raise ValueError(f"{name} must be above {bound}, got {value}")


def check_descent(
    *, learning_rate: float, cooldown: float, weight_decay: float, max_grad_norm: float, ema_decay: float
) -> None:
    """Raise ValueError for a setting with which an optimizer, its schedule or the averaged weights cannot work."""
    check_above(0, learning_rate=learning_rate, max_grad_norm=max_grad_norm)
    check_at_least(0, weight_decay=weight_decay)
    if not 0 <= cooldown <= 1:
        raise ValueError(f"cooldown must be from 0 to 1, a fraction of the iterations; got {cooldown}")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay must be at least 0 and below 1, got {ema_decay}")


def check_optimizer_steps(steps: int, rows: int) -> None:
    """Raise ValueError if a group has not a row for each optimizer step of an epoch."""
    if steps > rows:
        raise ValueError(f"optimizer_steps must be at most {rows}, the rows of a group; got {steps}")

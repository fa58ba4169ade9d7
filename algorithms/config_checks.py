"""Checks of settings, at once and not when a run needs them. nan is within no bound."""

from typing import Protocol


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


class _Descent(Protocol):
    """What post-training and the base set alike: a frozen dataclass with these fields."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def cooldown(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...


def check_descent(optim: _Descent) -> None:
    """Raise ValueError for a setting with which an optimizer, its schedule or the averaged weights cannot work."""
    check_above(0, learning_rate=optim.learning_rate, max_grad_norm=optim.max_grad_norm)
    check_at_least(0, weight_decay=optim.weight_decay)
    if not 0 <= optim.cooldown <= 1:
        raise ValueError(f"cooldown must be from 0 to 1, a fraction of the iterations; got {optim.cooldown}")
    if not 0 <= optim.ema_decay < 1:
        raise ValueError(f"ema_decay must be at least 0 and below 1, got {optim.ema_decay}")


def check_optimizer_steps(steps: int, rows: int) -> None:
    """Raise ValueError if a group has not a row for each optimizer step of an epoch."""
    if steps > rows:
        raise ValueError(f"optimizer_steps must be at most {rows}, the rows of a group; got {steps}")

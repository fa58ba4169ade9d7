"""Checks of settings, at once and not when a run needs them."""


def check_at_least(bound: int, **values: int) -> None:
    """Raise ValueError for a setting below the bound."""
    for name, value in values.items():
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")

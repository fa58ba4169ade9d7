"""Rewards that are far off: below what 95 % of real cells earn. n contexts, G samples of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from algorithms.evaluation.evaluated_cells import EvaluatedCells

REAL_SHARE = 0.05  # of real cells that lie below the limit, by construction
Rewards = Sequence[Mapping[str, Any]]  # as evaluation.json describes them


def limits(cells: EvaluatedCells, rewards: Rewards) -> dict[str, float]:
    """The limit of each reward, from the row of real cells; rewards without one are left out.

    A reward with a negative weight is far off above its limit.
    """
    found = {}
    for reward in rewards if "real" in cells.values else ():
        if reward["name"] in cells.values["real"]:
            values = cells.of("real", reward["name"])
            known = values[np.isfinite(values)]
            share = 1 - REAL_SHARE if reward["weight"] < 0 else REAL_SHARE
            if len(known):
                found[reward["name"]] = float(np.quantile(known, share))
    return found


def far_off(value: float | None, limit: float, weight: float) -> bool:
    """Whether a value is worse than its limit; an undefined one is not."""
    return value is not None and (value > limit if weight < 0 else value < limit)


def violation_shares(cells: EvaluatedCells, rewards: Rewards) -> dict[str, dict[str, float]]:
    """Share of images that are far off, by reward and row; of those with a value, nan if none has."""
    found: dict[str, dict[str, float]] = {}
    weights = {reward["name"]: reward["weight"] for reward in rewards}
    for name, limit in limits(cells, rewards).items():
        found[name] = {}
        for row in cells.values:
            values = cells.of(row, name)
            known = values[np.isfinite(values)]
            worse = known > limit if weights[name] < 0 else known < limit
            found[name][row] = float(worse.mean()) if len(known) else float("nan")
    return found

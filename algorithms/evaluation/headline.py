"""Which rows a report compares, and what it says first: how much of the gap to real images each closes."""

from collections.abc import Mapping
from typing import NamedTuple

from algorithms.evaluation.statistics import Figures

NOTE = (
    "Gain over the baseline, as a share of what real cells are above it. Each reward counts up to the level of real "
    "cells, and only if they exceed the baseline in it."
)


class Pair(NamedTuple):
    """A row and the baseline that it is compared with, on the same contexts."""

    row: str
    baseline: str

    @property
    def key(self) -> str:
        """Its key in the evaluation."""
        return f"{self.row}-{self.baseline}"

    @property
    def title(self) -> str:
        """Its name for people: "rl − base"."""
        return f"{self.row} − {self.baseline}"


class Headline(NamedTuple):
    """Shares of the gap as text: titles of the columns, and a line for each pair."""

    columns: list[str]
    lines: dict[str, list[str]]


def shown_pairs(evaluation: Figures) -> list[Pair]:
    """The paired differences worth a column, those to the base first: of all rows but real images."""
    pairs = [Pair(row, "base") for row in evaluation["rows"]] + [
        Pair(*pair) for pair in evaluation["baselines"].items()
    ]
    return [pair for pair in pairs if pair.row != "real" and pair.key in evaluation["paired"]]


def headline(evaluation: Figures) -> Headline:
    """The share of all rewards, weighted, and each judge's own; without lines if there are no real images."""
    judged = [reward for reward in evaluation["rewards"] if reward["judge"]]
    lines = {}
    for pair in shown_pairs(evaluation) if "gap" in evaluation else []:
        gap = evaluation["gap"][pair.key]
        shares = [gap["share"], *(gap["own"].get(f"judge_{reward['name']}") for reward in judged)]
        lines[pair.title] = [percent_interval(share) for share in shares]
    return Headline(["all rewards", *(f"{reward['label']}, judge" for reward in judged)], lines)


def mean_of(figure: Figures | float | None) -> float | None:
    """A figure, or its mean if it has an interval."""
    return figure["mean"] if isinstance(figure, Mapping) else figure


def percent_interval(share: Figures | None) -> str:
    """A share and its interval as text: "42 % (35 to 49)"; a dash if it is undefined."""
    if share is None or share["mean"] is None:
        return "–"
    mean, low, high = (
        "–" if value is None else f"{round(100 * value)}".replace("-", "−") for value in (share["mean"], *share["ci"])
    )
    return f"{mean} % ({low} to {high})"

"""Notice a collapse while it happens, by signs that need no judge: metrics of the last iterations and of the first.

k iterations a window. Light to import, since the settings do.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

WINDOW = 10  # k


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A metric of log.jsonl whose mean over the last k iterations has a limit, factor * first + offset.

    first: its mean over the first k. falls: what is below the limit is a sign; otherwise, what is above.
    """

    metric: str
    meaning: str
    advice: str  # what to try
    factor: float = 1.0
    offset: float = 0.0
    falls: bool = False

    def limit(self, first: float) -> float:
        """The limit, given the mean of the first iterations."""
        return self.factor * first + self.offset

    def shows(self, first: float, last: float) -> bool:
        """Whether the mean of the last iterations is beyond the limit."""
        return last < self.limit(first) if self.falls else last > self.limit(first)


HOLD_BACK = "try a smaller --optim.learning-rate, or a larger --loss.kl-weight"
SIGNS = (
    Sign(
        metric="pixel_diversity",
        meaning="the images of one context become alike",
        advice=HOLD_BACK,
        factor=0.8,
        falls=True,
    ),
    Sign(
        metric="norm_ratio",  # RL inflates the velocity by 5 to 15 % where it goes well
        meaning="the velocity grows beyond the reference's, and contrast with it",
        advice=HOLD_BACK,
        factor=1.2,
    ),
    Sign(
        metric="kl",  # about 0 in the first iterations
        meaning="the weights leave the reference",
        advice=HOLD_BACK,
        offset=0.03,
    ),
    Sign(
        metric="frac_reward_nan",
        meaning="more images cannot be scored",
        advice="look at samples/, and at what the rewards find undefined; " + HOLD_BACK,
        offset=0.1,
    ),
)


@dataclass(kw_only=True)
class CollapseMonitor:
    """Compares the last k iterations of a run with its first k, from 2 k on, and reports each sign once.

    stop: whether a sign ends the run. It depends on the metrics alone: fed with the log of a run that was stopped, it
    goes on as if there had been no stop.
    """

    stop: bool = False
    window: int = WINDOW
    signs: Sequence[Sign] = SIGNS
    found: dict[str, str] = field(default_factory=dict)  # message of each sign that showed, by metric
    kept: int | None = None  # iterations behind the weights that a stopped run went back to
    _first: list[Mapping[str, float]] = field(default_factory=list)
    _last: list[Mapping[str, float]] = field(default_factory=list)

    def update(self, iteration: int, metrics: Mapping[str, float]) -> list[str]:
        """Take in the metrics of an iteration; returns the messages of signs that show for the first time."""
        if len(self._first) < self.window:
            self._first.append(metrics)
            return []
        self._last = [*self._last, metrics][-self.window :]
        if len(self._last) < self.window:
            return []
        new = {}
        for sign in self.signs:
            first, last = (finite_mean(sign.metric, rows) for rows in (self._first, self._last))
            if sign.metric not in self.found and sign.shows(first, last):
                new[sign.metric] = (
                    f"iteration {iteration}: {sign.metric} is {last:.3g} (mean of {self.window} iterations), limit "
                    f"{sign.limit(first):.3g}, {first:.3g} at the start: {sign.meaning}; {sign.advice}"
                )
        self.found |= new
        return list(new.values())

    def replay(self, log: Iterable[Mapping[str, float]]) -> None:
        """Take in the lines of a log.jsonl, so that the run goes on as if it had not been stopped."""
        for line in log:
            self.update(int(line["iteration"]), line)

    def summary(self) -> dict[str, str]:
        """What a report says of the run; nothing if no sign showed."""
        if not self.found:
            return {}
        stopped = [] if self.kept is None else [f"stopped; the weights are those after {self.kept} iterations"]
        return {"signs of collapse": "; ".join([*self.found.values(), *stopped])}


def finite_mean(metric: str, rows: Sequence[Mapping[str, float]]) -> float:
    """Mean of the finite values of a metric; nan, which is beyond no limit, if there are none."""
    values = [row[metric] for row in rows if math.isfinite(row.get(metric, math.nan))]
    return sum(values) / len(values) if values else math.nan

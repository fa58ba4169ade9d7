"""Notice a collapse while it happens, by signs that need no judge: metrics of the last iterations and of the first.

k iterations a window. Light to import, since the settings do.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

WINDOW = 10  # k


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A metric of log.jsonl whose mean over the last k iterations has a limit, factor * start + offset.

    start: its value before training, where that is known; None: its mean over the first k iterations.
    falls: what is below the limit is a sign; otherwise, what is above.
    """

    metric: str
    meaning: str
    advice: str  # what to try
    start: float | None = None
    factor: float = 1.0
    offset: float = 0.0
    falls: bool = False

    def limit(self, start: float) -> float:
        """The limit, given the value at the start."""
        return self.factor * start + self.offset

    def shows(self, start: float, last: float) -> bool:
        """Whether the mean of the last iterations is beyond the limit."""
        return last < self.limit(start) if self.falls else last > self.limit(start)


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
        metric="norm_ratio",
        meaning="the velocity outgrows the reference's, and the contrast of the images with it",
        advice=HOLD_BACK,
        start=1.0,
        factor=1.15,
    ),
    Sign(
        metric="kl",  # rises with the first steps of AdamW, and falls again where training goes well
        meaning="the weights leave the reference",
        advice=HOLD_BACK,
        start=0.0,
        offset=0.1,
    ),
    Sign(
        metric="frac_reward_nan",
        meaning="more images cannot be scored",
        advice="look at samples/, and at what the rewards leave undefined; " + HOLD_BACK,
        offset=0.1,
    ),
)


@dataclass(kw_only=True)
class CollapseMonitor:
    """Compares the last k iterations of a run with its start, and reports each sign once.

    A start that has to be measured is compared with from 2 k iterations on. stop: whether a sign ends the run.
    """

    stop: bool = False
    window: int = WINDOW
    signs: Sequence[Sign] = SIGNS
    found: dict[str, str] = field(default_factory=dict)  # message of each sign that showed, by metric
    kept: int | None = None  # iterations behind the weights that a stopped run went back to
    _first: list[Mapping[str, float]] = field(default_factory=list)
    _last: list[Mapping[str, float]] = field(default_factory=list)
    _seen: int = 0

    def update(self, iteration: int, metrics: Mapping[str, float]) -> list[str]:
        """Take in the metrics of an iteration; returns the messages of signs that show for the first time."""
        self._seen += 1
        self._first = [*self._first, metrics][: self.window]
        self._last = [*self._last, metrics][-self.window :]
        new = {}
        for sign in self.signs:
            start, last = self._start(sign), finite_mean(sign.metric, self._last)
            if sign.metric not in self.found and self._seen >= self.window and sign.shows(start, last):
                new[sign.metric] = (
                    f"iteration {iteration}: {sign.metric} is {last:.3g} (mean of {self.window} iterations), limit "
                    f"{sign.limit(start):.3g}, {start:.3g} at the start: {sign.meaning}; {sign.advice}"
                )
        self.found |= new
        return list(new.values())

    def _start(self, sign: Sign) -> float:
        """Value of a metric at the start; nan, with which nothing shows, before the window that measures it is over."""
        if sign.start is not None:
            return sign.start
        return finite_mean(sign.metric, self._first) if self._seen >= 2 * self.window else math.nan

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

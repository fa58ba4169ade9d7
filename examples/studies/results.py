"""What the runs of a comparison measured, in memory and as CSV. S seeds, n contexts, P points of a run."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from algorithms.evaluation.gap import capped_share
from algorithms.evaluation.periodic_eval import EvalResult
from algorithms.files import write_whole
from rewards.suite.spec import WEIGHTS

Curves = Mapping[str, Sequence[Mapping[str, NDArray[np.float64]]]]  # candidate -> one per seed: column -> (P,)


@dataclass(frozen=True, kw_only=True)
class Point:
    """Evaluation of the EMA weights along a run."""

    iteration: int
    nfe: int  # network evaluations so far
    seconds: float  # of training
    result: EvalResult


@dataclass(frozen=True, kw_only=True)
class CandidateRun:
    """One candidate with one seed; the first point is the base."""

    name: str
    seed: int
    points: list[Point]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `asdict`."""
        points = [Point(**{**point, "result": EvalResult(**point["result"])}) for point in content["points"]]
        return cls(**{**content, "points": points})


@dataclass(frozen=True, kw_only=True)
class Results:
    """All runs of a comparison, their common base, and real cells in the same contexts."""

    runs: Sequence[CandidateRun]
    base: EvalResult
    real: EvalResult

    def names(self) -> list[str]:
        """Names of the candidates, in the order in which they were given."""
        return list(dict.fromkeys(run.name for run in self.runs))

    def metrics(self) -> list[str]:
        """Names of the total, the rewards and the judges."""
        return list(self.base.values)

    def of(self, name: str) -> list[CandidateRun]:
        """Runs of one candidate."""
        return [run for run in self.runs if run.name == name]

    def final(self, name: str, metric: str) -> NDArray[np.float64]:
        """A reward or judge at the end of one candidate's runs, (S, n)."""
        return np.stack([run.points[-1].result.of(metric) for run in self.of(name)])

    def gap_share(self, result: EvalResult) -> float:
        """Share of the gap from the base to real cells that a result closes, each reward capped (`capped_share`)."""
        means, base, real = (x.means() for x in (result, self.base, self.real))
        gain, gap = (np.array([x[name] - base[name] for name in WEIGHTS]) for x in (means, real))
        return float(capped_share(gain, gap, np.array(list(WEIGHTS.values()))))


def save_csv(file: Path, runs: Iterable[CandidateRun], label: str) -> None:
    """Write one line per candidate, seed and point. label: name of the candidates' column."""
    lines = [
        {label: run.name, "seed": run.seed, "point": i, "iteration": point.iteration, "nfe": point.nfe}
        | {"seconds": round(point.seconds, 1)}
        | {name: round(value, 5) for name, value in point.result.means().items()}
        for run in runs
        for i, point in enumerate(run.points)
    ]
    write_csv(file, lines)


def write_csv(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write lines of equal keys under a header, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_whole(file, text.getvalue().encode())


def load_csv(file: Path, label: str) -> Curves:
    """Columns of each candidate and seed, as `save_csv` wrote them."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            found.setdefault(line.pop(label), {}).setdefault(line["seed"], []).append(line)
    return {name: [columns(points) for points in seeds.values()] for name, seeds in found.items()}


def columns(lines: Sequence[Mapping[str, str]]) -> dict[str, NDArray[np.float64]]:
    """Lines of numbers as one array (P,) per column."""
    return {key: np.array([float(line[key]) for line in lines]) for key in lines[0]}

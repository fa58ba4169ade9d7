"""What the runs of a comparison measured, and how it is kept. S seeds, n contexts."""

import csv
import io
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from algorithms.files import write_whole


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What images earn: each reward and judge on every context, n values (None: undefined), and a distance."""

    values: Mapping[str, list[float | None]]
    frechet: float

    def of(self, name: str) -> np.ndarray:
        """The values of a reward or judge, (n,), nan where undefined."""
        return np.asarray(self.values[name], np.float64)

    def figures(self) -> dict[str, float]:
        """Means over contexts, and the distance."""
        return {name: float(np.nanmean(self.of(name))) for name in self.values} | {"frechet": self.frechet}


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a run stood, at the averaged weights."""

    iteration: int
    passes: int
    seconds: float  # of training
    marks: Marks


@dataclass(frozen=True, kw_only=True)
class Run:
    """One candidate and seed; the first point is the base."""

    name: str
    seed: int
    points: list[Point]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """What `asdict` made of a run."""
        points = [Point(**{**point, "marks": Marks(**point["marks"])}) for point in content["points"]]
        return cls(**{**content, "points": points})


@dataclass(frozen=True, kw_only=True)
class Results:
    """All runs of a comparison, the base that they start from, and real cells in the same contexts."""

    runs: Sequence[Run]
    base: Marks
    real: Marks

    def names(self) -> list[str]:
        """The candidates, in the order in which they were given."""
        return list(dict.fromkeys(run.name for run in self.runs))

    def seeds(self, name: str) -> list[Run]:
        """The runs of a candidate."""
        return [run for run in self.runs if run.name == name]

    def last(self, name: str, figure: str) -> np.ndarray:
        """A reward or judge at the end of a candidate's runs, (S, n)."""
        return np.stack([run.points[-1].marks.of(figure) for run in self.seeds(name)])


def keep(file: Path, settings: Mapping[str, str], content: Mapping[str, Any]) -> None:
    """Write what was made with these settings: a whole file or none."""
    write_whole(file, json.dumps({"settings": settings, "content": content}, allow_nan=False).encode())


def kept(file: Path, settings: Mapping[str, str]) -> Any | None:
    """What `keep` wrote, or None; made with other settings it is refused."""
    if not file.exists():
        return None
    saved = json.loads(file.read_text())
    if was := changed(saved["settings"], settings):
        raise ValueError(f"{file} was made with {was}; give another --output-dir, or remove the file")
    return saved["content"]


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The settings that differ, in words; nothing where none does."""
    other = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
    return ", ".join(f"{name}={then.get(name)}, now {now.get(name)}" for name in other)


def told(config: Any, free: Container[str]) -> dict[str, str]:
    """The settings in a config, but for those that may change when a run goes on."""
    return {name: str(value) for name, value in vars(config).items() if name not in free}


def save_csv(file: Path, runs: Iterable[Run], label: str) -> None:
    """One line per (candidate, seed, point); label: what the first column is called."""
    lines = [
        {label: run.name, "seed": run.seed, "point": i, "iteration": at.iteration, "passes": at.passes}
        | {"seconds": round(at.seconds, 1)}
        | {name: round(value, 5) for name, value in at.marks.figures().items()}
        for run in runs
        for i, at in enumerate(run.points)
    ]
    write_csv(file, lines)


def write_csv(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Lines of the same columns, under their names: a whole file or none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_whole(file, text.getvalue().encode())


def load_csv(file: Path, label: str) -> dict[str, list[dict[str, np.ndarray]]]:
    """For each candidate its seeds, and of each the columns of its points."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            found.setdefault(line.pop(label), {}).setdefault(line["seed"], []).append(line)
    return {
        name: [{key: np.array([float(line[key]) for line in points]) for key in points[0]} for points in runs.values()]
        for name, runs in found.items()
    }

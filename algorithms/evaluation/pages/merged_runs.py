"""Several runs as one: a row for each trained generator, beside the base and the real cells that they share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from algorithms.evaluation.compared import TAKEN
from algorithms.evaluation.evaluated_cells import CellPicture, EvaluatedCells, ShownContext
from algorithms.evaluation.headline import mean_of
from algorithms.evaluation.statistics import Figures
from algorithms.evaluation.stored_run import BestOfNFile, SelectionCurve, StoredRun, trained_rows

TOLERANCE = 1e-3  # of figures that are equal but for the machine that computed them


class Entry(NamedTuple):
    """A trained row of a run."""

    name: str  # in the merged run
    run: StoredRun
    row: str


def run_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart, none of them one of TAKEN.

    Raises:
        ValueError: a folder stands twice.
    """
    paths = [folder.absolute() for folder in folders]
    if len({*paths}) < len(paths):
        raise ValueError(f"need different runs; got {', '.join(map(str, folders))}")
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len({*names}) == len(names) and not {*names} & {*TAKEN}:
            return names
    return [str(path) for path in paths]


def merge_runs(runs: Mapping[str, StoredRun]) -> StoredRun:
    """One run with a row for each trained row of all, called by its run; the configuration is where they differ.

    Raises:
        ValueError: runs have no trained row, or were not evaluated on the same contexts, rewards and base.
    """
    first_name, first = next(iter(runs.items()))
    for name, run in runs.items():
        check_same_evaluation(first.evaluation, run.evaluation, first_name, name)
    entries = [entry for name, run in runs.items() for entry in _entries(name, run)]
    rows = first.evaluation["rows"]
    merged: dict[str, Any] = {
        "rows": {"base": rows["base"]}
        | {entry.name: entry.run.evaluation["rows"][entry.row] for entry in entries}
        | {"real": rows["real"]},
        "paired": {f"{e.name}-base": e.run.evaluation["paired"][f"{e.row}-base"] for e in entries}
        | {"real-base": first.evaluation["paired"].get("real-base", {})},
        "rewards": first.evaluation["rewards"],
        "baselines": {},
        "config": differing({name: run.evaluation["config"] for name, run in runs.items()}),
    }
    if all("gap" in entry.run.evaluation for entry in entries):
        merged["gap"] = {f"{e.name}-base": e.run.evaluation["gap"][f"{e.row}-base"] for e in entries}
    return StoredRun(
        evaluation=merged,
        cells=_merge_cells(first.cells, entries),
        logs={entry.name: entry.run.logs[entry.row] for entry in entries if entry.row in entry.run.logs},
        best_of_n=_merge_selections(entries),
    )


def check_same_evaluation(one: Figures, other: Figures, name: str, other_name: str) -> None:
    """Raise ValueError unless two evaluations share contexts, rewards, base and real cells, so that rows compare."""
    mend = "evaluate both with the same cells, --contexts, --seed, --base and rewards (`cellfluxrl evaluate`)"
    for row in ("base", "real"):
        a, b = (evaluation["rows"].get(row) for evaluation in (one, other))
        if a is None or b is None:
            raise ValueError(f"need a row {row!r} in the evaluations of {name} and {other_name}: {mend}")
        both = f"{name} and {other_name} were not evaluated alike"
        if lone := sorted(a.keys() ^ b.keys()):
            raise ValueError(f"{both}, only one has {', '.join(lone)}: {mend}")
        for key in a:
            x, y = mean_of(a[key]), mean_of(b[key])
            if not _close(x, y):
                raise ValueError(f"{both}, {key} of its row {row} is {x} and {y}: {mend}")


def _close(x: float | None, y: float | None) -> bool:
    """A figure that one of two does not have is no difference: versions of the library define more of them."""
    return x is None or y is None or math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def differing(configs: Mapping[str, Figures]) -> Figures:
    """The settings in which runs differ, as text by run."""
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    found = {key: {name: str(config.get(key, "–")) for name, config in configs.items()} for key in keys}
    return {
        key: "; ".join(f"{name}: {value}" for name, value in values.items())
        for key, values in found.items()
        if len({*values.values()}) > 1
    }


def _entries(name: str, run: StoredRun) -> list[Entry]:
    trained = [row for row in trained_rows(run.evaluation) if f"{row}-base" in run.evaluation["paired"]]
    if not trained:
        rows = ", ".join(run.evaluation["rows"])
        raise ValueError(f"need a row of a trained generator in the evaluation of {name}; it has {rows}")
    return [Entry(name if len(trained) == 1 else f"{name} {row}", run, row) for row in trained]


def _merge_cells(first: EvaluatedCells | None, entries: Sequence[Entry]) -> EvaluatedCells | None:
    """Values and pictures of the runs that have stored them; of the contexts that all of these show."""
    if first is None:
        return None
    stored = [(e.name, e.row, e.run.cells) for e in entries if e.run.cells and e.run.cells.seeds == first.seeds]
    values = {"base": first.values["base"]} | {name: cells.values[row] for name, row, cells in stored}
    measures = {"base": first.measures["base"]} | {name: cells.measures[row] for name, row, cells in stored}
    pictures = [(name, row, {shown.context: shown.pictures for shown in cells.shown}) for name, row, cells in stored]
    shown = []
    for context in first.shown:
        if all(context.context in drawn for _, _, drawn in pictures):
            trained: dict[str, CellPicture] = {name: drawn[context.context][row] for name, row, drawn in pictures}
            own = context.pictures
            around = {"control": own["control"], "base": own["base"]} | trained | {"real": own["real"]}
            shown.append(ShownContext(context=context.context, groups=context.groups, pictures=around))
    return replace(
        first,
        values=values | {"real": first.values["real"]},
        measures=measures | {"real": first.measures["real"]},
        shown=tuple(shown),
    )


def _merge_selections(entries: Sequence[Entry]) -> BestOfNFile | None:
    """The curves of the runs that have one at the same N as the first that has."""
    stored = [(e.name, e.row, e.run.best_of_n) for e in entries if e.run.best_of_n]
    found = [(name, row, file) for name, row, file in stored if row in file.curve.rows]
    if not found:
        return None
    first = found[0][2]
    same = [(name, row, file.curve) for name, row, file in found if file.curve.n == first.curve.n]
    curve = SelectionCurve(
        n=first.curve.n,
        rows={"base": first.curve.rows["base"]} | {name: curve.rows[row] for name, row, curve in same},
        paired={f"{name}-base": curve.paired[f"{row}-base"] for name, row, curve in same},
    )
    return replace(first, curve=curve)

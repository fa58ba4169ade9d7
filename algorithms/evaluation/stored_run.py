"""What a run left in its folder for a report: evaluation, values and pictures of cells, log, best-of-N selection."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from algorithms.evaluation.evaluated_cells import EvaluatedCells
from algorithms.evaluation.statistics import Figures
from algorithms.files import write_whole
from algorithms.logs import Log, read_log
from cellenv.json_io import dump_json, read_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluationFile:
    """What evaluation.json holds; see `algorithms.evaluation.metrics.evaluate`."""

    rows: dict[str, dict[str, Any]]
    paired: dict[str, dict[str, Any]]
    gap: dict[str, dict[str, Any]] = field(default_factory=dict)
    rewards: list[dict[str, Any]]
    baselines: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)  # fingerprint of those of each generator
    config: dict[str, Any]

    def __post_init__(self) -> None:
        if not self.rows or any("n_contexts" not in row for row in self.rows.values()):
            raise ValueError("need rows, each with n_contexts")


@dataclass(frozen=True, kw_only=True)
class IntervalFigure:
    """A mean and its interval."""

    mean: float | None
    ci: tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class SelectionCurve:
    """Figures of each row, and of its difference to the base, at each N.

    Raises:
        ValueError: not one set of figures for each N.
    """

    n: list[int]
    rows: dict[str, list[dict[str, IntervalFigure]]]
    paired: dict[str, list[dict[str, IntervalFigure]]]

    def __post_init__(self) -> None:
        if any(len(at) != len(self.n) for at in (*self.rows.values(), *self.paired.values())):
            raise ValueError(f"need figures for each of {len(self.n)} N")


@dataclass(frozen=True, kw_only=True)
class BestOfNFile:
    """What best_of_n.json holds; see `algorithms.evaluation.selection.compare_models`."""

    curve: SelectionCurve
    best_of: dict[str, dict[str, Any]]
    weights: dict[str, str] = field(default_factory=dict)  # fingerprint of those of each row

    @property
    def about(self) -> Figures:
        """The evaluation at the smallest N: its real cells, rewards and config."""
        return next(iter(self.best_of.values()))

    def of_weights(self, weights: Mapping[str, str]) -> Self | None:
        """The curves of the rows whose weights an evaluation has too; None without the base's.

        weights: fingerprint of those of each row of the evaluation. A row that the evaluation calls otherwise is kept.
        If either has no fingerprints, as files of older versions, all curves are.
        """
        if not self.weights or not weights:
            return self
        known = {*weights.values()}
        kept = {row for row, own in self.weights.items() if own in known and weights.get(row, own) == own}
        if "base" not in kept:
            return None
        rows = {row: at for row, at in self.curve.rows.items() if row in kept}
        paired = {pair: at for pair, at in self.curve.paired.items() if pair.removesuffix("-base") in kept}
        return replace(self, curve=replace(self.curve, rows=rows, paired=paired))


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """An evaluation and what lies beside it. logs: by trained row."""

    evaluation: Figures
    cells: EvaluatedCells | None = None
    logs: Mapping[str, Log] = field(default_factory=dict)
    best_of_n: BestOfNFile | None = None

    @classmethod
    def of_rows(cls, stem: Path, evaluation: Figures, cells: EvaluatedCells | None, runs: Mapping[str, Path]) -> Self:
        """An evaluation that is written to {stem}.json, with the logs and the selection in the folders of its rows.

        Of the selection only what is of the same cells and weights; a damaged one is left out, with a warning.
        """
        best_of_n = None
        for folder in (stem.parent, *runs.values()):
            try:
                best_of_n = best_of_n or _read_selection(folder, evaluation)
            except ValueError as error:
                logger.warning("left out of the page: %s", error)
        return cls(evaluation=evaluation, cells=cells, logs=_read_logs(runs), best_of_n=best_of_n)

    @classmethod
    def read(cls, folder: Path, name: str = "evaluation") -> Self:
        """What lies in a folder; the log is that of its first trained row.

        Raises:
            FileNotFoundError: there is no such folder, or no evaluation in it.
            ValueError: a file is damaged; names it.
        """
        stem = folder / name
        file = stem.with_name(f"{name}.json")
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}: give the folder of a run that was evaluated")
        if not file.is_file():
            raise FileNotFoundError(
                f"{folder} holds no evaluation: need {file}, as a finished training writes, or"
                f" `cellfluxrl evaluate --model rl={folder}/model --output-dir {folder}`"
            )
        content = asdict(read_json(file, EvaluationFile))
        evaluation = content if content["gap"] else {key: value for key, value in content.items() if key != "gap"}
        drawn = stem.with_name(f"{name}_cells.json")
        cells = EvaluatedCells.load(drawn) if drawn.is_file() else None
        logs = _read_logs(dict.fromkeys(trained_rows(evaluation)[:1], folder))
        return cls(evaluation=evaluation, cells=cells, logs=logs, best_of_n=_read_selection(folder, evaluation))


def save_evaluation(evaluation: Mapping[str, Any], path: str | Path) -> None:
    """Write evaluation.json: a whole file or none."""
    write_whole(path, dump_json(dict(evaluation)))


def _read_logs(runs: Mapping[str, Path]) -> dict[str, Log]:
    """The log in the folder of each row that has one."""
    return {row: log for row, folder in runs.items() if (log := read_log(folder / "log.jsonl"))}


def _read_selection(folder: Path, evaluation: Figures) -> BestOfNFile | None:
    """The curves in a folder that are of the cells and weights of an evaluation; None if none is.

    Raises:
        ValueError: the file is damaged; names it.
    """
    if not (file := folder / "best_of_n.json").is_file():
        return None
    selection = read_json(file, BestOfNFile)
    if selection.about["config"].get("unseen") != (evaluation["config"].get("unseen") or False):
        return None
    return selection.of_weights(evaluation.get("weights", {}))


def trained_rows(evaluation: Figures) -> list[str]:
    """Rows that were trained: not the base, by whatever sampler, nor real, nor given images."""
    config = evaluation["config"]
    others = {"base", "real", *config.get("images", ()), *config.get("base by other samplers", ())}
    return [row for row in evaluation["rows"] if row not in others]

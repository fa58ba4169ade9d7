"""Several trainings of one recipe as Markdown: the tables of docs/results.md.

    cellfluxrl evaluate --model s0=runs/s0/model --model s1=runs/s1/model --model s2=runs/s2/model
    python -m examples.studies.show_seeds --rows s0 s1 s2

Two tables: every figure as mean over the trainings, its gain with the lowest and the highest; and of each training, how
much of the gap to real cells it closes, and its distances and diversity divided by the base's. Writes no file.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class ShowSeedsConfig:
    evaluation: Path = Path("runs/evaluation")  # folder that `evaluate` wrote
    rows: tuple[str, ...] = ()  # the trainings; none: every trained row
    unseen: bool = False  # its evaluation on compounds that no generator was trained on


PRESETS = {"default": ShowSeedsConfig(), "smoke": ShowSeedsConfig(evaluation=Path("runs/evaluation-smoke"))}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from collections.abc import Sequence

import numpy as np

from algorithms.evaluation.headline import mean_of, percent_interval
from algorithms.evaluation.report import number, sections
from algorithms.evaluation.statistics import Figures
from algorithms.evaluation.stored_run import StoredRun, trained_rows
from examples.studies.comparison_report import TextTable, spread

RATIOS = {"frechet": "Fréchet", "kernel": "kernel", "diversity": "diversity"}


def mean_table(evaluation: Figures, names: Sequence[str]) -> TextTable:
    """Base, mean of the trainings and real cells in every figure, and the mean gain with the lowest and the highest."""
    rows, lines = evaluation["rows"], []
    for name, label in _labels(evaluation).items():
        base = mean_of(rows["base"].get(name))
        trained = [x for row in names if (x := mean_of(rows[row].get(name))) is not None]
        if base is None or len(trained) < len(names):
            continue
        shown = (base, float(np.mean(trained)), mean_of(rows["real"].get(name)))
        gain = spread([x - base for x in trained], sign=True, decimals=3)
        lines.append([label, *(number(x, decimals=3) for x in shown), gain])
    head = ["", "base", "RL", "real", "RL − base, lowest to highest seed"]
    return TextTable(f"Mean of {', '.join(names)}:", head, lines)


def share_table(evaluation: Figures, names: Sequence[str]) -> TextTable:
    """Gain in total, shares of the gap with intervals over contexts, and ratios to the base, of each training."""
    rows, labels = evaluation["rows"], _labels(evaluation)
    judged = [f"judge_{reward['name']}" for reward in evaluation["rewards"] if reward["judge"]]
    own = [name for name in (*judged, "roundness") if name in labels]
    ratios = [name for name in RATIOS if name in rows["base"]]
    lines = []
    for row in names:
        gap, gain = evaluation["gap"][f"{row}-base"], evaluation["paired"][f"{row}-base"]["total"]["mean"]
        shares = [percent_interval(share) for share in (gap["share"], *(gap["own"].get(name) for name in own))]
        divided = [number(rows[row][name] / rows["base"][name], decimals=2) for name in ratios]
        lines.append([row, number(gain, sign=True, decimals=2), *shares, *divided])
    head = ["", "total", "all rewards", *(labels[name] for name in own), *(RATIOS[name] for name in ratios)]
    return TextTable("Gain in total, shares of the gap to real cells, and figures divided by the base's:", head, lines)


def main(config: ShowSeedsConfig) -> None:
    """Print both tables.

    Raises:
        FileNotFoundError: the folder holds no evaluation.
        ValueError: a row is not among the trained rows of the evaluation.
    """
    evaluation = StoredRun.read(config.evaluation, "evaluation_unseen" if config.unseen else "evaluation").evaluation
    known = trained_rows(evaluation)
    if unknown := [row for row in config.rows if row not in known]:
        raise ValueError(f"{config.evaluation} has no trained row {', '.join(unknown)}; it has {', '.join(known)}")
    for table in (mean_table, share_table):
        print(table(evaluation, config.rows or known).markdown())


def _labels(evaluation: Figures) -> dict[str, str]:
    """Figures in the order of the report, without the cost."""
    labels = {name: label for section in sections(evaluation) for name, label in section.figures.items()}
    return {name: label for name, label in labels.items() if name != "nfe"}


if __name__ == "__main__":
    main(CONFIG)

"""The paper's questions, each as a set of DiffusionNFT runs that differ in one setting and cost the same.

    python -m examples.studies.studies single        # one reward alone against all seven; others: docs/studies.md
    python -m examples.studies.studies kl --full     # the larger grid, three seeds, 80 iterations a run
    python -m examples.studies.studies levers --full --only default muon --seeds 1
    python -m examples.studies.studies form --preset smoke

Writes results.csv (a line for each setting, seed and point), table.md and picture.png to runs/studies/NAME. The runs
are in runs/studies/runs-test, where studies share those of equal config. A second call continues after the last
finished run; when all are finished it only prints.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from examples.studies.command_line import parse_script
from examples.studies.comparison_config import ComparisonConfig

StudyName = Literal["levers", "single", "signal", "kl", "beta", "coupling", "group_size", "form"]


@dataclass(frozen=True, kw_only=True)
class StudyConfig(ComparisonConfig):
    study: tyro.conf.Positional[StudyName] = tyro.MISSING
    full: bool = False  # the larger grid
    only: tuple[str, ...] = ()  # settings to run; empty: all of the grid
    output_dir: Path = Path("runs/studies")  # NAME and runs-SPLIT, or NAME-full and runs-SPLIT-full, are put under it
    budget: int | None = None  # NFE of a run; None: that of the grid
    seeds: tuple[int, ...] | None = None  # None: those of the grid
    points: int = 1


PRESETS = {
    "default": StudyConfig(),
    "smoke": StudyConfig(output_dir=Path("runs/studies-smoke"), budget=900, contexts=12, images=48, seeds=(0,)),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from collections.abc import Iterable, Sequence
from dataclasses import replace

from examples.studies.candidates import run_name
from examples.studies.comparison_config import Candidate
from examples.studies.comparison_report import plot_gains, write_report
from examples.studies.equal_cost import run_all
from examples.studies.grids import START, STUDIES
from examples.studies.results import load_csv


def baseline_of(config: ComparisonConfig, candidates: Iterable[Candidate]) -> str:
    """Name of the candidate with just the START options, with which others are compared; "" if there is none."""
    start = run_name(config, Candidate(name="start", options=START))
    return next((candidate.name for candidate in candidates if run_name(config, candidate) == start), "")


def chosen(candidates: Sequence[Candidate], names: Sequence[str]) -> tuple[Candidate, ...]:
    """The candidates of these names, or all if none is given.

    Raises:
        ValueError: a name is none of theirs.
    """
    known = [candidate.name for candidate in candidates]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--only {' '.join(unknown)}: the grid has {', '.join(known)}")
    return tuple(candidate for candidate in candidates if not names or candidate.name in names)


def main(config: StudyConfig) -> None:
    study = STUDIES[config.study]
    grid = study.full if config.full else study.reduced
    size = "-full" if config.full else ""
    folder = config.output_dir / f"{config.study}{size}"
    comparison = replace(
        config,
        output_dir=folder,
        runs_dir=config.runs_dir or config.output_dir / f"runs-{study.split}{size}",
        budget=config.budget or grid.budget,
    )
    candidates = chosen(grid.candidates, config.only)
    results = run_all(comparison, candidates, config.seeds or grid.seeds, split=study.split)
    write_report(
        results,
        load_csv(folder / "results.csv", "setting"),
        folder,
        label="setting",
        baseline=baseline_of(comparison, candidates),
        picture=plot_gains(results) if study.is_matrix else None,
    )


if __name__ == "__main__":
    main(CONFIG)

"""Draw the page of a run again, or compare runs on one page: figures with intervals, curves, pictures side by side.

    cellfluxrl report runs/nft                          # with what came later, as the curve of best-of-n
    cellfluxrl report runs/nft runs/grpo runs/awm       # a row for each, beside the base and real cells that they share
    cellfluxrl report runs/*/seed1 --unseen --output seeds.html

A run is a folder with evaluation.json, as trainings and `cellfluxrl evaluate` write it; evaluation_cells.json,
log.jsonl and best_of_n.json beside it are shown too. Runs must have been evaluated on the same contexts and base.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What is shown."""

    runs: Positional[tuple[Path, ...]] = ()  # folders with an evaluation
    output: Path = Path("runs/report.html")
    unseen: bool = False  # the evaluation on compounds that no generator was trained on

    def __post_init__(self) -> None:
        if len({*self.runs}) < len(self.runs):
            raise ValueError(f"need different runs; got {', '.join(map(str, self.runs))}")


PRESETS = {"default": ReportConfig()}


def main(config: ReportConfig) -> None:
    """Read the runs and write the page.

    Raises:
        ValueError: no run is given, or they cannot be compared.
        FileNotFoundError: a folder holds no evaluation.
    """
    from algorithms.evaluation.pages.merged_runs import merge_runs, run_names
    from algorithms.evaluation.pages.report_page import page, save_page
    from algorithms.evaluation.stored_run import StoredRun

    if not config.runs:
        raise ValueError("need the folder of a run, or of several: cellfluxrl report runs/nft runs/grpo")
    stem = "evaluation_unseen" if config.unseen else "evaluation"
    names = run_names(config.runs)
    runs = {name: StoredRun.read(folder, stem) for name, folder in zip(names, config.runs, strict=True)}
    run = next(iter(runs.values())) if len(runs) == 1 else merge_runs(runs)
    save_page(page(run, title=" and ".join(names)), config.output)
    print(f"wrote {config.output}")


def estimate(config: ReportConfig) -> Estimate:
    """Reading files and drawing a page: seconds."""
    from algorithms.estimate import Estimate, peak_memory

    return Estimate(nfe=0, seconds=float(len(config.runs)), memory=peak_memory())


if __name__ == "__main__":
    from algorithms.cli import run

    run("report")

"""Fit a segmenter on synthetic cells with true masks: that of the rewards, or the judge.

    cellfluxrl fit segmenter
    cellfluxrl fit segmenter --preset judge

The shipped weights learned from plain crops. On real crops they take dim background for cells. A second stage, on
cluttered crops, mends much of that and costs accuracy in the embedded world, where some cells are as dim:

    cellfluxrl fit segmenter --start FILE --nucleus-steps 0 --cell-steps 0 --clutter-steps 600 --weights OWN

Takes five minutes on one core that computes in bfloat16; twenty, and thirty for the judge, on one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from algorithms.config_checks import check_at_least

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class SegmenterFitConfig:
    """Training of a segmenter, the rewarding one or the judge."""

    model: Literal["segmenter", "judge"] = "segmenter"
    start: Path | None = None  # weights to go on from, with 0 steps of what is not trained again; None: random weights
    weights: Path | None = None  # .safetensors file to write, with a JSON file beside it; None: the shipped weights
    scenes: int = 3000  # training crops for each of the two networks
    nucleus_steps: int = 2000  # optimizer steps
    cell_steps: int = 3000  # optimizer steps
    clutter_steps: int = 0  # further optimizer steps for cells: masked crops, backgrounds that are no objects
    batch_size: int = 16  # images a step
    learning_rate: float = 2e-3  # peak, after the warm-up
    clutter_learning_rate: float = 1e-3  # the same, of the further steps
    empty: float = 0.06  # fraction of training images without any object
    validation: int = 256  # crops
    seed: int | None = None  # of weights, batches and the embedded world; None: 0, or 1 for the judge
    threads: int = 1

    def __post_init__(self) -> None:
        check_at_least(
            1, scenes=self.scenes, batch_size=self.batch_size, validation=self.validation, threads=self.threads
        )


PRESETS = {
    "default": SegmenterFitConfig(),
    "judge": SegmenterFitConfig(model="judge"),
    "smoke": SegmenterFitConfig(
        weights=Path("runs/segmenter.safetensors"),
        scenes=16,
        nucleus_steps=2,
        cell_steps=2,
        clutter_steps=2,
        batch_size=4,
        validation=8,
    ),
}


def main(config: SegmenterFitConfig) -> None:
    """Train, validate and save the segmenter."""
    from algorithms.recipes.fit.segmenter_training import fit_segmenter

    fit_segmenter(config)


def estimate(config: SegmenterFitConfig) -> Estimate:
    """Estimate the time from a few scenes and optimizer steps of each network."""
    from algorithms.recipes.fit.segmenter_training import estimate_fit

    return estimate_fit(config)


if __name__ == "__main__":
    from algorithms.cli import run

    run("fit", "segmenter")

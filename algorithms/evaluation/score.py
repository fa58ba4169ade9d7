"""Segment, measure and score the cells of a folder in the CellFlux layout.

    cellfluxrl score DATA --output-dir OUT
    cellfluxrl score DATA --output-dir OUT --reward sharpness=mylab.rewards:sharpness

OUT/measures.csv has one row for each image, with an empty cell for an undefined measure and a column for each reward
that --reward adds; OUT/contact_sheet.png shows 64 images with the outlines of their masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from algorithms.config import FolderConfig, RewardConfig
from algorithms.config_checks import check_at_least
from algorithms.train_config import DistributedConfig

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Scoring of a folder; the rewards of the suite are scored only with --classifier and --reference."""

    folder: Positional[Path] = field(default_factory=lambda: Path("."))  # with *_df_all.csv, emb_*.csv and the images
    output_dir: Path = Path("runs/scores")
    limit: int | None = None  # images, drawn at random; None: all
    batch_size: int = 64  # images at once
    seed: int = 0  # of the draw, and of the images on the contact sheet
    data: FolderConfig = FolderConfig()
    reward: RewardConfig = RewardConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size, limit=1 if self.limit is None else self.limit)


PRESETS = {"default": ScoreConfig(), "smoke": ScoreConfig(output_dir=Path("runs/scores-smoke"), limit=64)}


def main(config: ScoreConfig) -> None:
    """Score the images, write both files, print the means for each mechanism of action (MoA)."""
    from algorithms.evaluation.scoring import score_folder

    score_folder(config)


def estimate(config: ScoreConfig) -> Estimate:
    """Estimate the time of scoring all images from one batch."""
    from algorithms.evaluation.scoring import estimate_scoring

    return estimate_scoring(config)


if __name__ == "__main__":
    from algorithms.cli import run

    run("score")

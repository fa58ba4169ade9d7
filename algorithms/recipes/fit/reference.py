"""Fit the reference statistics: mean and standard deviation of every measure on real images.

    cellfluxrl fit reference --output rewards/assets/reference.json
    cellfluxrl fit reference --data DIR --segmenter cellpose --output runs/reference.json

There is one mean and one standard deviation for each mechanism of action (MoA), or for each compound where none is
known; --by controls takes the untreated images instead, all as one. The rewards that compare with them are conditioned
on the same. The segmenter must be that of the rewards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from algorithms.config import DataConfig, SegmenterConfig
from algorithms.config_checks import check_at_least
from algorithms.train_config import DistributedConfig

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """Which cells the statistics are of."""

    split: Literal["train", "validation", "test"] = "train"
    output: Path = Path("runs/reference.json")
    by: Literal["auto", "moa", "compound", "controls"] = "auto"  # auto: MoA, or compound for cells without MoAs
    min_cells: int = 30  # images that each MoA or compound must have
    batch_size: int = 256  # images at once
    limit: int | None = None  # images, drawn at random; None: all
    seed: int = 0  # of the draw
    data: DataConfig = DataConfig()
    segmentation: SegmenterConfig = SegmenterConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size, limit=1 if self.limit is None else self.limit)


PRESETS = {"default": ReferenceConfig(), "smoke": ReferenceConfig(limit=96, min_cells=2)}


def main(config: ReferenceConfig) -> None:
    """Measure the images, fit the statistics, save and print them."""
    from algorithms.recipes.fit.reference_fitting import fit_reference

    fit_reference(config)


def estimate(config: ReferenceConfig) -> Estimate:
    """Estimate the time of measuring all images from one batch."""
    from algorithms.recipes.fit.reference_fitting import estimate_fit

    return estimate_fit(config)


if __name__ == "__main__":
    from algorithms.cli import run

    run("fit", "reference")

"""Fit a classifier of mechanisms of action (MoA) on real treated images: that of the rewards, or the judge.

The two differ in architecture, augmentation and seed. The temperature is fitted on the validation split; accuracy,
calibration error and the confusion matrix are computed on the test split. Every MoA weighs the same, however many
images it has. The judge learns from another seed of the embedded world: other plates, potencies and cells.

    cellfluxrl fit classifier --weights rewards/assets/classifier.safetensors
    cellfluxrl fit classifier --preset judge --weights rewards/assets/judge.safetensors
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from algorithms.config import DataConfig
from algorithms.config_checks import check_at_least
from algorithms.train_config import DistributedConfig

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Training of a classifier, the rewarding one or the judge."""

    model: Literal["classifier", "judge"] = "classifier"
    output_dir: Path = Path("runs/classifier")  # of the confusion matrix, and of the weights unless --weights is given
    weights: Path | None = None  # .safetensors file to write, with a JSON file beside it
    epochs: int = 10
    batch_size: int = 64  # images a step
    learning_rate: float = 2e-3  # peak, of one cycle
    weight_decay: float = 0.02
    limit: int | None = None  # images of each split, drawn at random; None: all
    seed: int = 0
    data: DataConfig = DataConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size, limit=1 if self.limit is None else self.limit)


PRESETS = {
    "default": ClassifierConfig(),
    "judge": ClassifierConfig(model="judge", learning_rate=1e-3, seed=1, data=DataConfig(world=1)),
    "smoke": ClassifierConfig(epochs=1, batch_size=16, limit=48),
}


def main(config: ClassifierConfig) -> None:
    """Train, calibrate, test and save the classifier."""
    from algorithms.recipes.fit.classifier_training import fit_classifier

    fit_classifier(config)


def estimate(config: ClassifierConfig) -> Estimate:
    """Estimate the time of training from one optimizer step."""
    from algorithms.recipes.fit.classifier_training import estimate_fit

    return estimate_fit(config)


if __name__ == "__main__":
    from algorithms.cli import run

    run("fit", "classifier")

"""Post-train the generator with advantage-weighted matching (AWM), then compare it with its base.

    cellfluxrl train awm
    cellfluxrl train awm --preset smoke                        # two iterations and the evaluation
    accelerate launch examples/train_awm.py                    # the same, on any number of processes

As `train nft`, but for the loss: flow matching on the images of a group, weighted by their advantages of either sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import MatchingLossConfig, RenoisedConfig, WeightingConfig, presets
from algorithms.recipes.commands import commands

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class AWMLossConfig(WeightingConfig, MatchingLossConfig):
    """Settings of `algorithms.losses.awm.AWMLoss`."""

    clip_epsilon: float = 0.01  # how far the log-likelihood of an image may move from the old weights


@dataclass(frozen=True, kw_only=True)
class AWMConfig(RenoisedConfig):
    """Post-training with AWM."""

    output_dir: Path = Path("runs/awm")
    loss: AWMLossConfig = AWMLossConfig()


PRESETS = presets(AWMConfig())


def build(components: Components[AWMConfig]) -> Algorithm:
    """AWMLoss on what the old weights drew, re-noised."""
    from algorithms.build import pull_to_base
    from algorithms.losses.awm import AWMLoss
    from algorithms.losses.matching import TIME_WEIGHTS

    config = components.config.loss
    loss = AWMLoss(
        *components.models,
        clip_epsilon=config.clip_epsilon,
        time_weight=TIME_WEIGHTS[config.weighting],
        **pull_to_base(config),
    )
    return components.renoised_algorithm(loss)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "awm")

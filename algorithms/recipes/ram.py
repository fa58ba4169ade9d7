"""Post-train the generator with Reinforce Adjoint Matching (RAM), then compare it with its base.

    cellfluxrl train ram
    cellfluxrl train ram --preset smoke                        # two iterations and the evaluation
    accelerate launch examples/train_ram.py                    # the same, on any number of processes

As `train nft`, but for the loss: regression on the base's velocity, corrected by the advantage. The images are always
drawn by the present weights, and the base is the anchor, so one frozen network is evaluated and not two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import (
    OldPolicyRolloutConfig,
    PostTrainingConfig,
    RenoisedConfig,
    RenoisedLossConfig,
    WeightingConfig,
    presets,
)
from algorithms.recipes.commands import commands
from algorithms.train_config import OptimConfig

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class RAMLossConfig(WeightingConfig, RenoisedLossConfig):
    """Settings of `algorithms.losses.ram`."""

    c: float = 3.0  # size of the correction; the smaller, the closer to the base


@dataclass(frozen=True, kw_only=True)
class RAMConfig(RenoisedConfig):
    """Post-training with RAM."""

    output_dir: Path = Path("runs/ram")
    optim: OptimConfig = PostTrainingConfig.optim
    loss: RAMLossConfig = RAMLossConfig()
    rollout: OldPolicyRolloutConfig = OldPolicyRolloutConfig(decay_slope=0.0, decay_most=0.0)  # on policy


PRESETS = presets(RAMConfig())


def build(components: Components[RAMConfig]) -> Algorithm:
    """RAMLoss on what theta drew, re-noised."""
    from algorithms.losses.matching import TIME_WEIGHTS
    from algorithms.losses.ram import RAMLoss

    config = components.config.loss
    loss = RAMLoss(*components.models, c=config.c, time_weight=TIME_WEIGHTS[config.weighting])
    return components.renoised_algorithm(loss)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "ram")

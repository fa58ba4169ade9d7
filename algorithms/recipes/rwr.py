"""Post-train the generator with reward-weighted regression (RWR), then compare it with its base.

    cellfluxrl train rwr
    cellfluxrl train rwr --preset smoke                        # two iterations and the evaluation
    accelerate launch examples/train_rwr.py                    # the same, on any number of processes

As `train nft`, but for the loss: flow matching on the images of a group, weighted by exp(advantage / temperature).
With `--control zero` all weights are 1, which shows what fine-tuning on its own images does to a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import MatchingLossConfig, RenoiseConfig, RenoisedConfig, WeightingConfig, presets
from algorithms.recipes.commands import commands

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class RWRLossConfig(WeightingConfig, MatchingLossConfig):
    """Settings of `algorithms.losses.rwr`."""

    kl_weight: float = 4.0  # of the penalty for leaving the base: no sample is pushed away, so nothing else holds it
    temperature: float = 0.5  # in standard deviations of the reward; lower is greedier


@dataclass(frozen=True, kw_only=True)
class RWRConfig(RenoisedConfig):
    """Post-training with reward-weighted regression."""

    output_dir: Path = Path("runs/rwr")
    loss: RWRLossConfig = RWRLossConfig()
    renoise: RenoiseConfig = RenoiseConfig(noise_per="sample")  # no sample is pushed away, so nothing would cancel


PRESETS = presets(RWRConfig())


def build(components: Components[RWRConfig]) -> Algorithm:
    """RWRLoss on what the old weights drew, re-noised and weighted."""
    from functools import partial

    from algorithms.build import pull_to_base
    from algorithms.losses.matching import TIME_WEIGHTS
    from algorithms.losses.rwr import RWRLoss, build_rwr_batch

    config = components.config.loss
    build_batch = partial(build_rwr_batch, renoise=components.renoise(), temperature=config.temperature)
    loss = RWRLoss(
        *components.models,
        time_weight=TIME_WEIGHTS[config.weighting],
        **pull_to_base(config),
    )
    return components.renoised_algorithm(loss, build_batch)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "rwr")

"""Post-train the generator with rejection fine-tuning (RFT), then compare it with its base.

    cellfluxrl train rft
    cellfluxrl train rft --preset smoke                        # two iterations and the evaluation
    accelerate launch examples/train_rft.py                    # the same, on any number of processes

As `train nft`, but for the loss: flow matching on the best images of each group; the others are discarded.
With `--control zero` the first ones are kept, which shows what fine-tuning on its own images does to a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import MatchingLossConfig, RenoiseConfig, RenoisedConfig, WeightingConfig, presets
from algorithms.config_checks import check_optimizer_steps
from algorithms.recipes.commands import commands

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class RFTLossConfig(WeightingConfig, MatchingLossConfig):
    """Settings of `algorithms.losses.rft`."""

    kl_weight: float = 4.0  # of the penalty for leaving the base: no sample is pushed away, so nothing else holds it
    keep: int = 3  # images of each group


@dataclass(frozen=True, kw_only=True)
class RFTConfig(RenoisedConfig):
    """Post-training with rejection fine-tuning."""

    output_dir: Path = Path("runs/rft")
    loss: RFTLossConfig = RFTLossConfig()
    renoise: RenoiseConfig = RenoiseConfig(noise_per="sample")  # no sample is pushed away, so nothing would cancel

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.loss.keep <= self.rollout.group_size:
            raise ValueError(f"keep must be from 1 to group_size, {self.rollout.group_size}; got {self.loss.keep}")
        if self.rollout.train_on is not None:
            raise ValueError("rft trains on the --loss.keep best images of a group: leave out --rollout.train-on")
        check_optimizer_steps(self.optim.optimizer_steps, self.loss.keep * self.renoise.times_per_sample)


PRESETS = presets(RFTConfig())


def build(components: Components[RFTConfig]) -> Algorithm:
    """RFTLoss on the best of what the old weights drew, re-noised."""
    from functools import partial

    from algorithms.build import pull_to_base
    from algorithms.losses.matching import TIME_WEIGHTS
    from algorithms.losses.rft import RFTLoss, build_rft_batch

    config = components.config.loss
    build_batch = partial(build_rft_batch, renoise=components.renoise(), keep=config.keep)
    loss = RFTLoss(
        *components.models,
        time_weight=TIME_WEIGHTS[config.weighting],
        **pull_to_base(config),
    )
    return components.renoised_algorithm(loss, build_batch)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "rft")

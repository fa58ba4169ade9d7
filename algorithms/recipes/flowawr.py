"""Post-train the generator with flow advantage-weighted rectification (FlowAWR), then compare it with its base.

    cellfluxrl train flowawr
    cellfluxrl train flowawr --preset smoke                    # two iterations and the evaluation
    accelerate launch examples/train_flowawr.py                # the same, on any number of processes

As `train nft`, but for the loss: regression on the old velocity plus the advantage times its error, so that the size of
the advantage decides how far to go, and not only its sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import MatchingLossConfig, RenoisedConfig, presets
from algorithms.recipes.commands import commands

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class FlowAWRConfig(RenoisedConfig):
    """Post-training with FlowAWR."""

    output_dir: Path = Path("runs/flowawr")
    loss: MatchingLossConfig = MatchingLossConfig()


PRESETS = presets(FlowAWRConfig())


def build(components: Components[FlowAWRConfig]) -> Algorithm:
    """FlowAWRLoss on what the old weights drew, re-noised."""
    from algorithms.build import pull_to_base
    from algorithms.losses.flowawr import FlowAWRLoss

    loss = FlowAWRLoss(*components.models, **pull_to_base(components.config.loss))
    return components.renoised_algorithm(loss)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "flowawr")

"""Distil a generator's classifier-free guidance into its weights, then compare it with the base it came from.

    cellfluxrl train distil                                    # of runs/nft/model: the second half of `make train`
    cellfluxrl train distil --generator runs/ram/model --guidance 0.2 --guidance-power 0   # that of CellFlux
    cellfluxrl train distil --preset smoke                     # two iterations of the base, and the evaluation
    accelerate launch examples/train_distil.py                 # the same, on any number of processes

What a post-trained generator learned about its compounds lies in the difference to its own velocity without a compound,
which shares the noise of its weights. Guidance follows this difference further, at two evaluations of the network a
step; what is distilled takes one. In early steps it would take the images away from real ones, so that it grows with
--guidance-power of the time. No reward is learned from; those in the log say how far it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import (
    PARENT,
    OldPolicyRolloutConfig,
    RenoiseConfig,
    RenoisedConfig,
    RenoisedLossConfig,
    TrainingEvalConfig,
    WeightingConfig,
    presets,
)
from algorithms.recipes.commands import commands
from algorithms.train_config import OptimConfig

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class DistillationLossConfig(WeightingConfig, RenoisedLossConfig):
    """Settings of `algorithms.losses.distillation.DistillationLoss`."""

    guidance: float = 2.4  # w of what is learned, (1 + w t^p) v(compound) - w t^p v(none)
    guidance_power: float = 3.0  # p; 0: constant guidance
    guidance_from: float = 0.0  # time before which the teacher is not guided


@dataclass(frozen=True, kw_only=True)
class DistilConfig(RenoisedConfig):
    """Distillation of guidance."""

    output_dir: Path = Path("runs/distil")
    generator: str = "runs/nft/model"
    iterations: int = 32
    rollout: OldPolicyRolloutConfig = OldPolicyRolloutConfig(groups=36, group_size=2, decay_slope=0.0)  # on policy
    renoise: RenoiseConfig = RenoiseConfig(times_per_sample=4, noise_per="sample", times="rollout")
    # steps of AdamW have the size of the rate: at 1e-3 they are larger than what there is to learn. The target has no
    # noise, so that many steps on few rows each learn more than few steps on many
    optim: OptimConfig = OptimConfig(
        learning_rate=2e-4, warmup_iterations=5, cooldown=0.5, optimizer_steps=6, micro_batch_size=48
    )
    # the total is normalised, so that the log tells no shares of rewards in a signal that is not learned from
    loss: DistillationLossConfig = DistillationLossConfig(normalise="total", weighting="velocity")
    eval: TrainingEvalConfig = TrainingEvalConfig(base=PARENT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control != "none":
            raise ValueError(f"distillation learns from no reward, which --control {self.control} would replace")
        if self.rollout.train_on is not None:
            raise ValueError("distillation learns from every image, whatever its reward: leave out --rollout.train-on")


USUAL = presets(DistilConfig())
PRESETS = {"default": USUAL["default"], "smoke": replace(USUAL["smoke"], generator="embedded")}


def build(components: Components[DistilConfig]) -> Algorithm:
    """DistillationLoss on what the old weights drew, re-noised."""
    from algorithms.losses.distillation import DistillationLoss
    from algorithms.losses.matching import TIME_WEIGHTS
    from cellenv.generator import Sampling

    config = components.config.loss
    guided = Sampling(
        guidance=config.guidance, guidance_power=config.guidance_power, guidance_from=config.guidance_from
    )
    loss = DistillationLoss(*components.models, sampling=guided, time_weight=TIME_WEIGHTS[config.weighting])
    return components.renoised_algorithm(loss)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "distil")

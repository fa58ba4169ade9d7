"""Post-train the generator with Flow-GRPO on the biological rewards, then compare it with its base.

    cellfluxrl train grpo
    cellfluxrl train grpo --preset smoke                       # two iterations and the evaluation
    accelerate launch examples/train_grpo.py                   # the same, on any number of processes

An iteration draws groups of images with noise on a few early sampler steps, scores them, and makes the noise that led
to the better images of each group more probable. The evaluation samples without that noise. OUTPUT_DIR holds what
`train nft` writes.

An iteration takes one optimizer step, so that the ratio of probabilities is 1 and nothing is clipped;
`--epochs 2 --optimizer-steps 2` takes four, in which the clip acts. `--loss.kl-weight` counts mean |v_theta - v_ref|^2,
as in `train nft`: Flow-GRPO's weight of the KL divergence of the noisy steps is this one times 2 eta^2 / h, twice it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import LossConfig, SDEConfig, presets
from algorithms.recipes.commands import commands

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class GRPOLossConfig(LossConfig):
    """Settings of `algorithms.losses.grpo.GRPOLoss`."""

    clip_epsilon: float = 5e-3  # of the ratio of probabilities, whose logarithms are means over pixels
    kl_weight: float = 0.03  # of mean |v_theta - v_ref|^2, as in all algorithms; h / (2 eta^2) times that of a KL


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(SDEConfig):
    """Post-training with Flow-GRPO."""

    output_dir: Path = Path("runs/grpo")
    loss: GRPOLossConfig = GRPOLossConfig()


PRESETS = presets(GRPOConfig())


def build(components: Components[GRPOConfig]) -> Algorithm:
    """GRPOLoss on the noisy steps of on-policy rollouts."""
    from functools import partial

    from algorithms.losses.grpo import GRPOLoss, build_grpo_batch
    from algorithms.sde import SDEPolicy
    from algorithms.trainer import Algorithm

    loss, theta, ref = components.config.loss, components.theta, components.ref
    sampler = components.sde_sampler()
    return Algorithm(
        loss=GRPOLoss(theta, ref, clip_epsilon=loss.clip_epsilon, kl_weight=loss.kl_weight),
        collect=components.collector(SDEPolicy(theta, sampler)),
        build_batch=partial(build_grpo_batch, sampler=sampler, reward_fn=components.reward_fn()),
        theta=theta,
        old=theta,  # on policy: an iteration rolls out with the weights that it starts from
        frozen=[ref],
    )


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "grpo")

"""Post-train the generator with PPO on the denoising chain, then compare it with its base.

    cellfluxrl train ppo
    cellfluxrl train ppo --preset smoke                        # two iterations and the evaluation
    accelerate launch examples/train_ppo.py                    # the same, on any number of processes

An iteration draws images with noise on a few early sampler steps and scores them; a critic predicts the reward, and the
noise that led to a better one becomes more probable. The evaluation samples without that noise. OUTPUT_DIR holds what
`train nft` writes.
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

CRITIC_STREAM = 2**31 - 4  # of the seed; no rollout uses it


@dataclass(frozen=True, kw_only=True)
class PPOLossConfig(LossConfig):
    """Settings of `algorithms.losses.ppo`."""

    clip_epsilon: float = 5e-3  # of the ratio of probabilities, whose logarithms are means over pixels
    lmbda: float = 0.95  # of GAE: 1 trusts the reward alone, 0 the critic's next value
    critic_weight: float = 0.5
    critic_learning_rate_factor: float = 10.0  # the critic starts from nothing, so it learns faster


@dataclass(frozen=True, kw_only=True)
class PPOConfig(SDEConfig):
    output_dir: Path = Path("runs/ppo")
    loss: PPOLossConfig = PPOLossConfig()


PRESETS = presets(PPOConfig())


def build(components: Components[PPOConfig]) -> Algorithm:
    """PPOLoss with a critic on the noisy steps of on-policy rollouts."""
    from functools import partial

    from algorithms.losses.ppo import Critic, PPOLoss, build_ppo_batch
    from algorithms.sde import SDEPolicy
    from algorithms.trainer import Algorithm
    from cellenv.streams import rng_at

    config, theta = components.config, components.theta
    loss, sampler = config.loss, components.sde_sampler()
    critic = Critic(theta.config.size[0], theta.config.condition_dim, rng_at(config.seed, CRITIC_STREAM))
    return Algorithm(
        loss=PPOLoss(theta, critic, clip_epsilon=loss.clip_epsilon, critic_weight=loss.critic_weight),
        collect=components.collector(SDEPolicy(theta, sampler)),
        build_batch=partial(
            build_ppo_batch,
            sampler=sampler,
            critic=critic,
            lmbda=loss.lmbda,
            reward_fn=components.reward_fn(),
            gather=components.accelerator.gather,
        ),
        theta=theta,
        old=theta,  # on policy: an iteration rolls out with the weights that it starts from
        learning_rate_factors={critic: loss.critic_learning_rate_factor},
    )


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "ppo")

"""Post-train the generator with PPO on the denoising chain, then compare it with its base.

    cellfluxrl train ppo
    cellfluxrl train ppo --preset smoke                        # two iterations and the evaluation
    cellfluxrl train ppo --critic-epochs 0 --lmbda 1           # DDPO: a running mean per compound is the only baseline
    accelerate launch examples/train_ppo.py                    # the same, on any number of processes

An iteration draws images with noise on a few early sampler steps and scores them; a critic predicts the return, and the
noise that led to a better one becomes more probable. The evaluation samples without that noise. OUTPUT_DIR holds what
`train nft` writes.

Returns are normalised by running statistics, of each compound as in DDPO or of all images. The critic has an optimizer
of its own and takes several passes over each rollout, at first alone. Then theta takes `--epochs` passes in
minibatches: after the first step the ratio of probabilities leaves 1, and the clip bounds it. `--loss.kl-weight` counts
mean |v_theta - v_ref|^2, as in `train nft` and `train grpo`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from algorithms.config import LossConfig, SDEConfig, presets
from algorithms.config_checks import check_above
from algorithms.recipes.commands import commands
from algorithms.train_config import OptimConfig

if TYPE_CHECKING:
    from algorithms.losses.critic import Critic
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm, CriticTraining

CRITIC_STREAM = 2**31 - 4  # of the seed; no rollout uses it


@dataclass(frozen=True, kw_only=True)
class PPOLossConfig(LossConfig):
    """Settings of `algorithms.losses.ppo`, `algorithms.losses.critic` and `algorithms.returns`."""

    clip_epsilon: float = 5e-3  # of the ratio of probabilities, whose logarithms are means over pixels
    kl_weight: float = 0.4  # of mean |v_theta - v_ref|^2, as in all algorithms; h / (2 eta^2) times that of a KL
    lmbda: float = 0.95  # of GAE: 1 trusts the return alone, 0 the critic's next value
    statistics_per: Literal["compound", "all"] = "compound"  # whose running mean and deviation normalise a return
    statistics_memory: int = 64  # images in them; older ones fade. Of all images: as many for every compound
    critic_epochs: int = 8  # passes of the critic over the rows of an iteration; 0: no critic, and no warm-up of it
    critic_warmup: int = 5  # first iterations, in which the critic learns and theta stays
    critic_learning_rate: float = 3e-3  # the critic starts from nothing, so it learns faster than theta


@dataclass(frozen=True, kw_only=True)
class PPOConfig(SDEConfig):
    """Post-training with PPO."""

    output_dir: Path = Path("runs/ppo")
    optim: OptimConfig = replace(SDEConfig.optim, epochs=2, optimizer_steps=4)
    loss: PPOLossConfig = PPOLossConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        loss = self.loss
        if min(loss.critic_epochs, loss.critic_warmup) < 0 or loss.statistics_memory < 1:
            raise ValueError(
                "need critic_epochs >= 0, critic_warmup >= 0 and statistics_memory >= 1, got "
                f"{loss.critic_epochs}, {loss.critic_warmup} and {loss.statistics_memory}"
            )
        check_above(0, critic_learning_rate=loss.critic_learning_rate)


SMOKE = presets(PPOConfig())["smoke"]
PRESETS = presets(PPOConfig()) | {"smoke": replace(SMOKE, loss=replace(SMOKE.loss, critic_warmup=1))}


def build(components: Components[PPOConfig]) -> Algorithm:
    """PPOLoss with a critic on the noisy steps of on-policy rollouts."""
    from functools import partial

    from algorithms.losses.critic import Critic
    from algorithms.losses.ppo import PPOLoss, build_ppo_batch
    from algorithms.returns import NormalisedReturns
    from algorithms.sde import SDEPolicy
    from algorithms.trainer import Algorithm
    from cellenv.streams import rng_at

    config, theta, ref = components.config, components.theta, components.ref
    loss, sampler, gather = config.loss, components.sde_sampler(), components.accelerator.gather
    critic = Critic(theta.config.size[0], theta.config.condition_dim, rng_at(config.seed, CRITIC_STREAM))
    critic.to(components.accelerator.device)
    compounds, per_compound = len(components.data.compounds), loss.statistics_per == "compound"
    returns = NormalisedReturns(
        components.signal_weights,
        compounds=compounds if per_compound else None,
        memory=loss.statistics_memory * (1 if per_compound else compounds),
        gather=gather,
    )
    return Algorithm(
        loss=PPOLoss(theta, ref, returns=returns, clip_epsilon=loss.clip_epsilon, kl_weight=loss.kl_weight),
        collect=components.collector(SDEPolicy(theta, sampler)),
        build_batch=partial(
            build_ppo_batch,
            sampler=sampler,
            critic=critic,
            lmbda=loss.lmbda,
            reward_fn=components.reward_fn(returns),
            gather=gather,
        ),
        theta=theta,
        old=theta,  # on policy: an iteration rolls out with the weights that it starts from
        frozen=[ref],
        critic=critic_training(config, critic),
    )


def critic_training(config: PPOConfig, critic: Critic) -> CriticTraining | None:
    """How the critic learns; None if it does not."""
    from algorithms.losses.critic import CriticLoss
    from algorithms.trainer import CriticTraining

    loss, optim = config.loss, config.optim
    if not loss.critic_epochs:
        return None
    critic_optim = OptimConfig(
        learning_rate=loss.critic_learning_rate,
        max_grad_norm=optim.max_grad_norm,
        epochs=loss.critic_epochs,
        optimizer_steps=optim.optimizer_steps,
        micro_batch_size=optim.micro_batch_size,
    )
    return CriticTraining(loss=CriticLoss(critic), optim=critic_optim, warmup_iterations=loss.critic_warmup)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "ppo")

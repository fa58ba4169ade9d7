"""Post-train the virtual cell with PPO on the denoising chain, then compare it with its base.

    accelerate launch examples/train_ppo.py
    accelerate launch examples/train_ppo.py --preset smoke                       # two iterations and the evaluation
    accelerate launch examples/train_ppo.py --resume                             # go on where it stopped

An iteration draws images with noise on a few early steps and scores them; a critic says what was to be expected, and
the noise that led to better becomes more probable. The evaluation draws without that noise. DIR holds what train_nft.py
writes.
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse
from settings import ChainSettings, presets


@dataclass(frozen=True, kw_only=True)
class Config(ChainSettings):
    output_dir: Path = Path("runs/ppo")
    lmbda: float = 0.95  # 1 trusts the reward alone, 0 the critic's next value
    critic_weight: float = 0.5
    critic_rate: float = 10.0  # how many times faster the critic learns, which starts from nothing


PRESETS = presets(Config())

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from post_training import Setup, post_train

from algorithms.losses.ppo import Critic, PPOLoss, ValuedSteps
from algorithms.policies import Chain, ChainPolicy
from algorithms.trainer import Algorithm
from cellenv.streams import rng_at

CRITIC = 2**31 - 4  # stream of the seed


def build(setup: Setup) -> Algorithm:
    config, theta = setup.config, setup.theta
    chain = Chain.of(theta, window=config.window, eta=config.eta)
    critic = Critic(theta.config.size[0], theta.config.condition_dim, rng_at(config.seed, CRITIC))
    return Algorithm(
        loss=PPOLoss(theta, critic, clip=config.clip, critic_weight=config.critic_weight),
        collect=setup.bandit(ChainPolicy(theta, chain)),
        prepare=ValuedSteps(
            chain=chain, critic=critic, lmbda=config.lmbda, signal=setup.signal(), gather=setup.accelerator.gather
        ),
        theta=theta,
        old=theta,  # an iteration rolls out with the weights that it starts from
        rates={critic: config.critic_rate},
    )


def main(config: Config) -> None:
    post_train(config, build)


if __name__ == "__main__":
    main(CONFIG)

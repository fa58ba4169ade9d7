"""Post-train the virtual cell with Flow-GRPO on the seven biological rewards, then compare it with its base.

    accelerate launch examples/train_grpo.py
    accelerate launch examples/train_grpo.py --preset smoke                      # two iterations and the evaluation
    accelerate launch examples/train_grpo.py --resume                            # go on where it stopped

An iteration draws groups of images with noise on a few early steps, scores them, and makes the noise that led to the
better ones of each group more probable. The evaluation draws without that noise. DIR holds what train_nft.py writes.
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse
from settings import ChainSettings, presets


@dataclass(frozen=True, kw_only=True)
class Config(ChainSettings):
    output_dir: Path = Path("runs/grpo")
    kl_weight: float = 0.01  # pull to the base


PRESETS = presets(Config())

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from post_training import Setup, post_train

from algorithms.losses.grpo import GroupedSteps, GRPOLoss
from algorithms.policies import Chain, ChainPolicy
from algorithms.trainer import Algorithm


def build(setup: Setup) -> Algorithm:
    config, theta, ref = setup.config, setup.theta, setup.ref
    chain = Chain.of(theta, window=config.window, eta=config.eta)
    return Algorithm(
        loss=GRPOLoss(theta, ref, clip=config.clip, kl_weight=config.kl_weight),
        collect=setup.bandit(ChainPolicy(theta, chain)),
        prepare=GroupedSteps(chain=chain, signal=setup.signal()),
        theta=theta,
        old=theta,  # an iteration rolls out with the weights that it starts from
        constant=[ref],
    )


def main(config: Config) -> None:
    post_train(config, build)


if __name__ == "__main__":
    main(CONFIG)

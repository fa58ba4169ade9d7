"""Post-train the virtual cell with advantage-weighted matching (AWM), then compare it with its base.

    accelerate launch examples/train_awm.py
    accelerate launch examples/train_awm.py --preset smoke                       # two iterations and the evaluation

As train_nft.py, but for the loss: flow matching on the images of a group, weighted by their advantages of either sign.
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse
from settings import RenoiseSettings, presets


@dataclass(frozen=True, kw_only=True)
class Config(RenoiseSettings):
    output_dir: Path = Path("runs/awm")
    clip: float = 0.01  # how far the log-likelihood of an image may move from the old weights


PRESETS = presets(Config())

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from post_training import Setup, post_train

from algorithms.losses.awm import AWMLoss
from algorithms.trainer import Algorithm


def build(setup: Setup) -> Algorithm:
    config, models = setup.config, (setup.theta, setup.old, setup.ref)
    return setup.on_renoised(AWMLoss(*models, clip=config.clip, kl_weight=config.kl_weight))


def main(config: Config) -> None:
    post_train(config, build)


if __name__ == "__main__":
    main(CONFIG)

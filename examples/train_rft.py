"""Post-train the virtual cell with rejection fine-tuning (RFT), then compare it with its base.

    accelerate launch examples/train_rft.py
    accelerate launch examples/train_rft.py --preset smoke                       # two iterations and the evaluation

As train_nft.py, but for the loss: flow matching on the best images of each group, the others are thrown away.
With --control zero the first ones are kept: what fine-tuning on its own images does to a model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse
from settings import RenoiseSettings, presets


@dataclass(frozen=True, kw_only=True)
class Config(RenoiseSettings):
    output_dir: Path = Path("runs/rft")
    noise_per: Literal["group", "sample"] = "sample"  # nothing is pushed away, so that nothing would cancel
    keep: int = 3  # images of each group


PRESETS = presets(Config())

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from post_training import Setup, post_train

from algorithms.losses.rft import KeepBest, RFTLoss
from algorithms.trainer import Algorithm


def build(setup: Setup) -> Algorithm:
    config, models = setup.config, (setup.theta, setup.old, setup.ref)
    keep_best = KeepBest(renoise=setup.renoise(), keep=config.keep)
    return setup.on_renoised(RFTLoss(*models, kl_weight=config.kl_weight), keep_best)


def main(config: Config) -> None:
    post_train(config, build)


if __name__ == "__main__":
    main(CONFIG)

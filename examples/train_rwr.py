"""Post-train the virtual cell with reward-weighted regression (RWR), then compare it with its base.

    accelerate launch examples/train_rwr.py
    accelerate launch examples/train_rwr.py --preset smoke                       # two iterations and the evaluation

As train_nft.py, but for the loss: flow matching on the images of a group, weighted by exp(advantage / temperature).
With --control zero all weights are 1: what fine-tuning on its own images does to a model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse
from settings import RenoiseSettings, presets


@dataclass(frozen=True, kw_only=True)
class Config(RenoiseSettings):
    output_dir: Path = Path("runs/rwr")
    noise_per: Literal["group", "sample"] = "sample"  # nothing is pushed away, so that nothing would cancel
    temperature: float = 0.5  # in standard deviations of the reward; less is greedier


PRESETS = presets(Config())

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from post_training import Setup, post_train

from algorithms.losses.rwr import RWRLoss, Weigh
from algorithms.trainer import Algorithm


def build(setup: Setup) -> Algorithm:
    config, models = setup.config, (setup.theta, setup.old, setup.ref)
    weigh = Weigh(renoise=setup.renoise(), temperature=config.temperature)
    return setup.on_renoised(RWRLoss(*models, kl_weight=config.kl_weight), weigh)


def main(config: Config) -> None:
    post_train(config, build)


if __name__ == "__main__":
    main(CONFIG)

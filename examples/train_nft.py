"""Post-train the virtual cell with DiffusionNFT on the seven biological rewards, then compare it with its base.

    accelerate launch examples/train_nft.py                                      # about 14 minutes on two CPU cores
    accelerate launch examples/train_nft.py --preset smoke                       # two iterations and the evaluation
    accelerate launch examples/train_nft.py --resume                             # go on where it stopped
    accelerate launch examples/train_nft.py --control shuffled --output-dir runs/nft-shuffled

An iteration draws groups of images with the old weights, scores them, and moves the weights towards the better ones of
each group and away from the worse. DIR holds log.jsonl and TensorBoard's files, samples/, checkpoints/, the trained
model/, evaluation.json and evaluation.html.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse
from settings import RenoiseSettings, presets


@dataclass(frozen=True, kw_only=True)
class Config(RenoiseSettings):
    output_dir: Path = Path("runs/nft")
    loss: Literal["adaptive", "plain"] = "adaptive"
    beta: float = 1.0  # mixing width of the NFT loss
    kl_weight: float = 0.4  # pull to the base; published: 1e-4


PRESETS = presets(Config())

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from post_training import Setup, post_train

from algorithms.losses.nft import NFTLoss
from algorithms.trainer import Algorithm


def build(setup: Setup) -> Algorithm:
    config, models = setup.config, (setup.theta, setup.old, setup.ref)
    adaptive = config.loss == "adaptive"
    return setup.on_renoised(NFTLoss(*models, beta=config.beta, kl_weight=config.kl_weight, adaptive=adaptive))


def main(config: Config) -> None:
    post_train(config, build)


if __name__ == "__main__":
    main(CONFIG)

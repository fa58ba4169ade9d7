"""Post-train the generator with DiffusionNFT on the biological rewards, then compare it with its base.

    cellfluxrl train nft                                       # 60 iterations, a quarter of an hour on a core with bf16
    cellfluxrl train nft --preset smoke                        # two iterations and the evaluation
    cellfluxrl train nft --resume                              # continue where it stopped
    cellfluxrl train nft --control shuffled --output-dir runs/nft-shuffled
    accelerate launch examples/train_nft.py                    # the same, on any number of processes

An iteration draws groups of images with the old weights, scores them, and moves the weights towards the better images
of each group and away from the worse. OUTPUT_DIR holds log.jsonl and TensorBoard's files, samples/, checkpoints/, the
trained model/, evaluation.html, evaluation.json and evaluation_cells.json.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from algorithms.config import MatchingLossConfig, RenoiseConfig, RenoisedConfig, presets
from algorithms.recipes.commands import commands
from algorithms.train_config import OptimConfig

if TYPE_CHECKING:
    from algorithms.recipes.post_training import Components
    from algorithms.trainer import Algorithm


@dataclass(frozen=True, kw_only=True)
class NFTLossConfig(MatchingLossConfig):
    """Settings of `algorithms.losses.nft.NFTLoss`."""

    form: Literal["adaptive", "plain"] = "adaptive"  # of the published code, or of the paper's equation
    beta: float = 0.1  # mixing width; published: 1, and 0.1 for several rewards


@dataclass(frozen=True, kw_only=True)
class NFTConfig(RenoisedConfig):
    """Post-training with DiffusionNFT."""

    output_dir: Path = Path("runs/nft")
    iterations: int = 60
    # most of a gradient's noise is in the choice of sources and times; AdamW's steps, whose size is the rate, follow it
    renoise: RenoiseConfig = RenoiseConfig(times_per_sample=6)
    optim: OptimConfig = replace(RenoisedConfig.optim, learning_rate=8e-4, warmup_iterations=5)
    loss: NFTLossConfig = NFTLossConfig(kl_share=1 / 3)


USUAL = presets(NFTConfig())
LONG_OPTIM = replace(NFTConfig.optim, learning_rate=4e-4)  # for as much noise in the end
PRESETS = {**USUAL, "long": replace(USUAL["long"], optim=LONG_OPTIM)}


def build(components: Components[NFTConfig]) -> Algorithm:
    """NFTLoss on what the old weights drew, re-noised."""
    from algorithms.build import pull_to_base
    from algorithms.losses.nft import NFTLoss

    config = components.config.loss
    loss = NFTLoss(
        *components.models,
        beta=config.beta,
        adaptive=config.form == "adaptive",
        **pull_to_base(config),
    )
    return components.renoised_algorithm(loss)


main, estimate = commands(build)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "nft")

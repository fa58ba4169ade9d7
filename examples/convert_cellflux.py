"""Convert a published CellFlux checkpoint, once, into a folder that `CellFlux.from_pretrained` reads.

    python examples/convert_cellflux.py cellflux.pth runs/cellflux

The folder holds model.safetensors and config.json: the network, the published sampler, and where the weights come from.
The checkpoint is read without running anything that it holds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Config:
    source: tyro.conf.Positional[Path]  # .pth, as torch.save wrote it
    output_dir: tyro.conf.Positional[Path]  # of the two files
    weights: Literal["ema", "raw"] = "ema"  # the running means, or those that were being trained
    network: Literal["cellflux-bbbc021", "cellflux-rxrx1", "cellflux-jump"] | None = None  # None: as the shapes say


if __name__ == "__main__":
    CONFIG = tyro.cli(Config, description=__doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from rich.console import Console

from cellenv.generator import CellFlux
from cellenv.networks import PRESETS
from cellenv.published import read_published


def main(config: Config) -> None:
    """Read, write, say what was written."""
    network = None if config.network is None else PRESETS[config.network]
    published = read_published(config.source, weights=config.weights, network=network)
    generator = CellFlux.from_published(published)
    generator.save_pretrained(config.output_dir, published.metadata)

    name = next((name for name, preset in PRESETS.items() if preset == published.network), "a network")
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    facts = published.metadata
    Console(soft_wrap=True, highlight=False).print(
        f"{config.output_dir}: {name}, {parameters:,} parameters, {facts['weights']} weights of epoch {facts['epoch']}"
    )


if __name__ == "__main__":
    main(CONFIG)

"""Convert a published CellFlux checkpoint to a folder for `CellFlux.from_pretrained`.

    cellfluxrl convert cellflux.pth runs/cellflux

The folder holds model.safetensors and config.json: the network, the published sampler, and the source of the weights.
Reading the checkpoint never runs code from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Which file becomes which folder."""

    source: Positional[Path] = Path("cellflux.pth")  # file by torch.save
    output_dir: Positional[Path] = Path("runs/cellflux")
    weights: Literal["ema", "raw"] = "ema"  # averaged weights, or those of the last training step
    network: Literal["cellflux-bbbc021", "cellflux-rxrx1", "cellflux-jump"] | None = None  # None: from the shapes


PRESETS = {"default": ConvertConfig()}


def main(config: ConvertConfig) -> None:
    """Read the checkpoint, write the folder and print what was written."""
    from rich.console import Console

    from cellenv.generator import CellFlux
    from cellenv.networks import PRESETS as NETWORKS
    from cellenv.published import read_published

    network = None if config.network is None else NETWORKS[config.network]
    published = read_published(config.source, weights=config.weights, network=network)
    generator = CellFlux.from_published(published)
    generator.save_pretrained(config.output_dir)

    name = next((name for name, preset in NETWORKS.items() if preset == published.network), "a network")
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    facts = published.metadata
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(
        f"{config.output_dir}: {name}, {parameters:,} parameters, {facts['weights']} weights of epoch {facts['epoch']}"
    )


def estimate(config: ConvertConfig) -> Estimate:
    """Estimate reading, hashing and writing at 100 MB/s each; the file is in memory at most twice."""
    from algorithms.estimate import Estimate

    size = config.source.stat().st_size
    return Estimate(nfe=0, seconds=3 * size / 1e8, memory=2 * size)


if __name__ == "__main__":
    from algorithms.cli import run

    run("convert")

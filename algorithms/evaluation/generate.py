"""Sample a generator on held-out contexts into a folder of images for `cellfluxrl evaluate --images`.

    cellfluxrl generate --generator runs/nft/model --output-dir runs/nft/images
    cellfluxrl evaluate --images rl=runs/nft/images

Contexts and noise are those of `evaluate` with the same --contexts, --group-size, --seed and data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import DataConfig
from algorithms.config_checks import check_at_least
from algorithms.train_config import DistributedConfig

if TYPE_CHECKING:
    from algorithms.estimate import Estimate
    from cellenv.generator import CellFlux


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Which generator draws, and how much."""

    generator: str = "embedded"  # folder with weights, or name of a shipped generator
    output_dir: Path = Path("runs/images")
    contexts: int = 512  # held-out contexts; fewer if there are not twice as many treated images
    group_size: int = 2  # samples of each context, with different noise
    unseen: bool = False  # the held-out compounds
    batch_size: int = 64  # images at once
    seed: int = 0  # of contexts and noise
    data: DataConfig = DataConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        check_at_least(1, contexts=self.contexts, group_size=self.group_size, batch_size=self.batch_size)


PRESETS = {
    "default": GenerateConfig(),
    "smoke": GenerateConfig(contexts=12, output_dir=Path("runs/images-smoke")),
}


def main(config: GenerateConfig, load: Callable[[str], CellFlux] | None = None) -> None:
    """Sample the images and write the folder.

    load: name -> generator; None: `CellFlux.from_pretrained`.

    Raises:
        FileExistsError: the folder holds images already.
        FileNotFoundError: the processes do not share the folder.
        ValueError: the generator does not fit the data.
    """
    import torch

    from algorithms.build import check_generators
    from algorithms.evaluation.comparison import held_out_cells, sampled_row
    from algorithms.evaluation.held_out import held_out
    from algorithms.evaluation.image_folder import check_new, write_images, write_index
    from algorithms.inspection.cached import check_data
    from algorithms.launch import start_processes
    from algorithms.processes import map_batches
    from cellenv.generator import CellFlux

    processes = start_processes(timeout=config.distributed.timeout)
    check_new(config.output_dir)
    check_data(config.data, unseen=config.unseen, splits=("test",))
    load = CellFlux.from_pretrained if load is None else load
    generator = load(config.generator).to(processes.device)
    data, n = held_out_cells(config.data, config.contexts, unseen=config.unseen)
    check_generators(data, generator)
    contexts, _, _ = held_out(data, n, config.seed)
    row = sampled_row(generator, contexts, config.group_size)

    def write(index: torch.Tensor) -> None:
        write_images(config.output_dir, row.images_at(index), index, config.group_size)

    map_batches(write, torch.arange(n * config.group_size).split(config.batch_size), "generate")
    if processes.is_main_process:
        write_index(config.output_dir, contexts, config.group_size, data)


def estimate(config: GenerateConfig) -> Estimate:
    """Estimate the cost of sampling all images from one batch."""
    from algorithms.estimate import estimate_sampling
    from cellenv.generator import CellFlux

    generator = CellFlux.from_pretrained(config.generator)
    return estimate_sampling([generator], config.contexts * config.group_size, config.batch_size)


if __name__ == "__main__":
    from algorithms.cli import run

    run("generate")

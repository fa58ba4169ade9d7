"""Draw cells of the embedded world, one row a mechanism of action: the picture in the README.

python examples/show_world.py --output docs/world.png
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    output: Path = Path("runs/world.png")
    columns: int = 12  # cells of each mechanism
    seed: int = 0


if __name__ == "__main__":
    CONFIG = parse({"default": Config()}, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import torch

from algorithms.files import save_png
from cellenv.data.synthetic import SyntheticCells
from cellenv.pictures import composite, grid


def main(config: Config) -> None:
    cells, rng = SyntheticCells("test"), torch.Generator().manual_seed(config.seed)
    treated = cells.treated[torch.randperm(len(cells.treated), generator=rng)]
    moa = cells.compound_moa[cells.perturbation[treated]]
    picks = [treated[moa == m][: config.columns] for m in range(len(cells.moas))]
    picks.insert(0, cells.controls[torch.randperm(len(cells.controls), generator=rng)[: config.columns]])
    rows = [composite(cells.images(pick), cells.channels) for pick in picks]
    config.output.parent.mkdir(parents=True, exist_ok=True)
    save_png(grid(rows, ["Untreated", *cells.moas]), config.output)


if __name__ == "__main__":
    main(CONFIG)

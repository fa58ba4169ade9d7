"""Draw cells of the embedded world, one row per mechanism of action: the picture in the README.

python -m examples.studies.show_world --output docs/world.png
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class ShowWorldConfig:
    output: Path = Path("runs/world.png")
    columns: int = 12  # cells of each mechanism
    seed: int = 0


PRESETS = {"default": ShowWorldConfig(), "smoke": ShowWorldConfig(output=Path("runs/smoke/world.png"), columns=2)}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import torch

from algorithms.files import save_png
from cellenv.data.synthetic import SyntheticCells
from cellenv.pictures import composite, grid


def main(config: ShowWorldConfig) -> None:
    cells = SyntheticCells("test")
    rng = torch.Generator().manual_seed(config.seed)
    treated = cells.treated[torch.randperm(len(cells.treated), generator=rng)]
    moa = cells.compound_moa[cells.perturbation[treated]]
    controls = cells.controls[torch.randperm(len(cells.controls), generator=rng)[: config.columns]]
    of_each_moa = [treated[moa == m][: config.columns] for m in range(len(cells.moas))]
    pictures = [composite(cells.images(rows), cells.channels) for rows in (controls, *of_each_moa)]
    save_png(grid(pictures, ["Untreated", *cells.moas]), config.output)


if __name__ == "__main__":
    main(CONFIG)

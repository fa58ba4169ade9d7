"""Draw plates of the embedded world as a microscope writes them, to try `cellfluxrl prepare` without own ones.

    cellfluxrl draw-plates FIELDS

FIELDS holds a TIFF for each stain of each field under BBBC021's names, its tables of fields and of mechanisms, the
embedding of the compounds, and truth.csv with the centre of every nucleus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class DrawPlatesConfig:
    """Plates of the embedded world: how many of what, and what the microscope does to them."""

    folder: Positional[Path] = field(default_factory=lambda: Path("runs/fields"))
    compounds: tuple[str, ...] = ("taxol", "etoposide", "PP-2", "emetine")  # of the embedded world
    plates: int = 2
    controls: int = 4  # wells a plate
    replicates: int = 2  # wells a plate of each compound, at two doses in turn
    sites: int = 2  # fields a well
    height: int = 1024  # px
    width: int = 1280  # px
    seed: int = 0


PRESETS = {
    "default": DrawPlatesConfig(),
    "smoke": DrawPlatesConfig(controls=2, replicates=2, sites=1, height=384, width=512, compounds=("taxol", "PP-2")),
}


def main(config: DrawPlatesConfig) -> None:
    """Draw the plates."""
    from cellenv.data.synthetic_plates import write_plates

    write_plates(
        config.folder,
        compounds=config.compounds,
        plates=config.plates,
        controls=config.controls,
        replicates=config.replicates,
        sites=config.sites,
        shape=(config.height, config.width),
        seed=config.seed,
    )


def estimate(config: DrawPlatesConfig) -> Estimate:
    """Estimate 2 s a megapixel."""
    from algorithms.estimate import Estimate, peak_memory

    wells = config.controls + config.replicates * len(config.compounds)
    pixels = config.plates * wells * config.sites * config.height * config.width
    return Estimate(nfe=0, seconds=2 * pixels / 1e6, memory=peak_memory())


if __name__ == "__main__":
    from algorithms.cli import run

    run("draw-plates")

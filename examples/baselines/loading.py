"""Load a saved generator, whichever of the three it is."""

from pathlib import Path

from cellenv.generator import CellFlux
from cellenv.weights_io import load_weights
from examples.baselines.impa import IMPA
from examples.baselines.phendiff import PhenDiff

BASELINES: dict[str, type[IMPA] | type[PhenDiff]] = {"phendiff": PhenDiff, "impa": IMPA}


def load_generator(folder_or_name: str | Path) -> CellFlux | PhenDiff | IMPA:
    """Generator from a folder that `save_pretrained` of any of them wrote, or a shipped CellFlux by name.

    All have sample(x0, condition, seed) -> (x1, source).
    """
    kind = load_weights(folder_or_name)[0].get("baseline") if Path(folder_or_name).is_dir() else None
    return BASELINES.get(kind, CellFlux).from_pretrained(folder_or_name)

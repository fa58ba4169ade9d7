"""Load a saved generator, whichever of the three it is."""

from pathlib import Path
from typing import Any

from cellenv.generator import CellFlux
from cellenv.json_io import read_json
from examples.baselines.impa import IMPA
from examples.baselines.phendiff import PhenDiff

BASELINES: dict[str, type[IMPA] | type[PhenDiff]] = {"phendiff": PhenDiff, "impa": IMPA}


def load_generator(folder_or_name: str | Path) -> CellFlux | PhenDiff | IMPA:
    """Generator from a folder that `save_pretrained` of any of them wrote, or a shipped CellFlux by name.

    All have sample(x0, condition, seed) -> (x1, source).
    """
    file = Path(folder_or_name) / "config.json"
    kind = read_json(file, dict[str, Any]).get("baseline") if file.is_file() else None
    return BASELINES.get(kind, CellFlux).from_pretrained(folder_or_name)

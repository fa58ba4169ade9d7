"""The generators that CellFlux and CellFluxRL were compared with, small; trained by train_baseline.py."""

from pathlib import Path

from baselines.impa import IMPA
from baselines.phendiff import PhenDiff
from cellenv.checkpoints import load_weights
from cellenv.generator import CellFlux

BASELINES = {"phendiff": PhenDiff, "impa": IMPA}


def load_generator(folder_or_name: str | Path) -> CellFlux | PhenDiff | IMPA:
    """What any `save_pretrained` of these wrote; all have sample(x0, condition, seed) -> (x1, source)."""
    kind = load_weights(folder_or_name)[0].get("baseline") if Path(folder_or_name).is_dir() else None
    return BASELINES.get(kind, CellFlux).from_pretrained(folder_or_name)


__all__ = ["BASELINES", "IMPA", "PhenDiff", "load_generator"]

"""What several scripts can be told: which cells, which segmenter, whose rewards. Light to import; see loading.py."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

SEGMENTERS = ("embedded", "classical", "cellpose")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of cells."""

    data: Path | None = None  # a folder of images; without one, the embedded world
    layout: Literal["bbbc021", "rxrx1", "jump"] = "bbbc021"  # of that folder: its files, columns and stains
    cache: Path | None = None  # a folder for one packed copy of its images, made at the first use
    skip_bad: bool = False  # leave out rows that cannot be used, in place of an error


@dataclass(frozen=True, kw_only=True)
class Cells(Folder):
    """Cells to train or test on."""

    include_unseen: bool = False  # held-out compounds too, in every split: a small folder may have few others

    def __post_init__(self) -> None:
        told = [f"--{f.name.replace('_', '-')}" for f in fields(Cells) if getattr(self, f.name) != f.default]
        if self.data is None and told:
            raise ValueError(f"need --data DIR for {', '.join(told)}: the embedded world takes none of these")


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """What finds nuclei and cells."""

    segmenter: str = "embedded"  # embedded, classical, cellpose, or a path of weights for the embedded one
    nucleus_weights: str | None = None  # Cellpose's for nuclei: a path, or a name in its own folder; None: the usual
    cell_weights: str | None = None  # Cellpose's for cells

    def __post_init__(self) -> None:
        if self.segmenter not in SEGMENTERS and not Path(self.segmenter).exists():
            names = ", ".join(SEGMENTERS)
            raise ValueError(f"need --segmenter {names}, or a path of embedded weights; got {self.segmenter!r}")
        if self.segmenter != "cellpose" and (self.nucleus_weights, self.cell_weights) != (None, None):
            raise ValueError(f"weights are for --segmenter cellpose; {self.segmenter} takes none")


@dataclass(frozen=True, kw_only=True)
class SeenCells(Cells, Eyes):
    """Cells, and what finds them."""

    def __post_init__(self) -> None:
        Cells.__post_init__(self)
        Eyes.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class Scoring(SeenCells):
    """Cells, and what images of them are scored with; the embedded world has its own."""

    classifier: Path | None = None  # weights of the rewarding classifier of these cells
    judge: Path | None = None  # weights of the judging one
    reference: Path | None = None  # statistics of real images, by fit_reference.py with the same segmenter
    rewards: Literal["default", "paper"] = "default"  # how a z-score becomes a reward

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [name for name in ("classifier", "judge", "reference") if getattr(self, name) is None]
        if self.data is not None and missing:
            flags = ", ".join(f"--{name}" for name in missing)
            raise ValueError(f"--data needs {flags} too: those of the embedded world do not measure other cells")

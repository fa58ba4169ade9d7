"""Facts about a folder of cells, and its problems, as plain values. C channels, H, W image, D condition size."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with some rows. stops: training would end with an error. rows: the first of `count`."""

    stops: bool
    title: str
    rows: tuple[str, ...]
    count: int
    mend: str  # what to do, and by which flag

    def named_rows(self, n: int = 3) -> str:
        """The first n rows, as text."""
        return ", ".join(self.rows[:n]) + (", ..." if self.count > n else "")


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A mechanism of action, or a compound where there are none. cells: split -> images of seen compounds."""

    name: str
    compounds: int
    doses: int
    cells: Mapping[str, int]
    held_out: int  # images of held-out compounds


@dataclass(frozen=True, kw_only=True)
class PlateRow:
    """A plate, or what else pairs images. treated, controls: split -> images."""

    name: str
    treated: Mapping[str, int]
    controls: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Facts about a folder, and its problems, those that stop a run first.

    classes are mechanisms of action, or compounds if not `labelled`. contexts: pairs of test images of one compound.
    min_cells: images that a class needs in the train split, as asked.
    histograms: (C, 256) pixels of each value, over a sample of the images. size: (H, W), None without a readable image.
    """

    folder: str
    index: str
    embedding: str
    labelled: bool
    pairing: str
    channels: tuple[str, ...]
    size: tuple[int, int] | None
    condition_size: int
    min_cells: int
    treated: int
    controls: int
    compounds: int
    contexts: int
    splits: tuple[str, ...]
    classes: tuple[ClassRow, ...]
    plates: tuple[PlateRow, ...]
    histograms: tuple[tuple[int, ...], ...]
    problems: tuple[Problem, ...]

    @property
    def stops(self) -> tuple[Problem, ...]:
        """The problems that would end a run."""
        return tuple(problem for problem in self.problems if problem.stops)

"""The embedded world: a procedural, seeded data set of drug-treated cells with true masks.

It has the shape of BBBC021 (3 x 96 x 96, 26 compounds and 8 unseen ones, 12 mechanisms, plates with controls)
and is rendered on access. It claims to be a benchmark, not biology.
"""

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellenv.data.cells import CellData
from cellenv.data.phenotypes import MECHANISMS, SEEN, UNSEEN, UNTREATED, blend
from cellenv.data.rendering import Labels, Optics, render
from cellenv.data.scene import draw_scene
from cellenv.images import CHANNELS, from_uint8

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PLATES, PLATES_PER_COMPOUND = 12, 4
CONDITION_SIZE = 64
TREATED_PER_COMPOUND = {"train": 400, "validation": 40, "test": 40}
CONTROLS_PER_PLATE = {"train": 150, "validation": 40, "test": 40}
DOSES = (0.35, 0.55, 0.8, 1.1)  # fractions of the full effect


class _Rendered(NamedTuple):
    """Images rendered so far."""

    pixels: NDArray[np.uint8]  # (N, 3, 96, 96)
    nuclei: NDArray[np.uint8]  # (N, 96, 96) labels
    cells: NDArray[np.uint8]  # (N, 96, 96) labels
    done: NDArray[np.bool_]  # (N,)


class SyntheticCells(CellData):
    """One split of the embedded world.

    split: "train", "validation" or "test"; no two share an image.
    unseen: the eight held-out compounds instead of the 26. Compound ids are the same in both.
    seed: of the world: plates, cells and condition vectors all depend on it.
    draw: of the images: two draws of one world share its plates, compounds and conditions, and no image.
    treated: images per compound; None takes 400 (train) or 40. A smaller number takes the first of them.

    Raises:
        ValueError: if split is unknown, draw < 0 or treated < 1.
    """

    channels = CHANNELS
    size = (3, 96, 96)
    moas = tuple(MECHANISMS)
    compounds = tuple(c for m in MECHANISMS for c in SEEN[m]) + tuple(c for m in MECHANISMS for c in UNSEEN.get(m, ()))

    def __init__(
        self,
        split: Split = "train",
        *,
        unseen: bool = False,
        seed: int = 0,
        draw: int = 0,
        treated: int | None = None,
    ):
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
        if treated is not None and treated < 1:
            raise ValueError(f"need treated >= 1, the images of each compound; got {treated}")
        if draw < 0:
            raise ValueError(f"need draw >= 0, got {draw}")
        self.split, self.seed, self.draw = split, seed, draw
        moa_of = {c: m for table in (SEEN, UNSEEN) for m, names in table.items() for c in names}
        self.compound_moa = torch.tensor([self.moas.index(moa_of[c]) for c in self.compounds])
        rng = np.random.default_rng((seed, 1))
        self._optics = [draw_optics(rng) for _ in range(PLATES)]
        self._potency = rng.uniform(0.85, 1.1, len(self.compounds))
        self.conditions = _draw_conditions(self.compound_moa, rng)
        plates = np.stack([rng.permutation(PLATES)[:PLATES_PER_COMPOUND] for _ in self.compounds])  # (P, 4)

        n_seen = sum(len(names) for names in SEEN.values())
        ids = range(n_seen, len(self.compounds)) if unseen else range(n_seen)
        each, controls = treated or TREATED_PER_COMPOUND[split], CONTROLS_PER_PLATE[split]
        rows = [(p, plates[p, k % PLATES_PER_COMPOUND], _dose(k), k) for p in ids for k in range(each)]
        rows += [(-1, plate, 0, k * PLATES + plate) for plate in range(PLATES) for k in range(controls)]
        columns = torch.tensor(rows).unbind(1)
        self.perturbation, self.plate, self.dose, self.number = (column.clone() for column in columns)
        self.keys = tuple(
            f"plate{plate:02d}_{'control' if p < 0 else f'compound{p:02d}'}_{split}-{draw}_{number}"
            for p, plate, _, number in rows
        )

    @cached_property
    def _rendered(self) -> _Rendered:
        n = len(self)  # `empty` reserves address space; memory is used only for rendered images
        pixels = np.empty((n, *self.size), np.uint8)
        nuclei, cells = np.empty((2, n, *self.size[1:]), np.uint8)
        return _Rendered(pixels, nuclei, cells, done=np.zeros(n, bool))

    def __getstate__(self) -> dict[str, Any]:
        """State without rendered images, which follow from the seed."""
        return {name: value for name, value in vars(self).items() if name != "_rendered"}

    def images(self, rows: Tensor) -> Tensor:
        """Images of these rows, (n, 3, 96, 96) float32 in [-1, 1]; the same pixels for the same seed."""
        self._render(rows)
        return from_uint8(torch.from_numpy(self._rendered.pixels[rows.numpy()]))

    def masks(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """True labels (nuclei, cells) of these rows, (n, 96, 96) int32 each, 0 = background."""
        self._render(rows)
        nuclei, cells = self._rendered.nuclei[rows.numpy()], self._rendered.cells[rows.numpy()]
        return torch.from_numpy(nuclei.astype(np.int32)), torch.from_numpy(cells.astype(np.int32))

    def _render(self, rows: Tensor) -> None:
        """Render those of these rows that are not rendered yet."""
        pixels, nuclei, cells, done = self._rendered
        for row in np.unique(rows.numpy()):
            if not done[row]:
                pixels[row], nuclei[row], cells[row] = self._draw(int(row))
                done[row] = True

    def _draw(self, row: int) -> tuple[NDArray[np.uint8], Labels, Labels]:
        """(image, nuclei, cells) of a row, as from `render`."""
        compound, plate = int(self.perturbation[row]), int(self.plate[row])
        key = (self.seed, 2, SPLITS.index(self.split), self.draw, compound + 1, int(self.number[row]))
        rng = np.random.default_rng(key)
        phenotype = UNTREATED
        if compound >= 0:
            strength = DOSES[self.dose[row]] * self._potency[compound] * rng.uniform(0.8, 1.15)
            phenotype = blend(MECHANISMS[self.moas[self.compound_moa[compound]]], strength)
        size = self.size[-1]
        scene = draw_scene(phenotype, size, rng)
        return render(scene, phenotype, refocus(self._optics[plate], rng), size, rng)


def _dose(k: int) -> int:
    """Index of the dose of a compound's k-th image: every dose stands on every one of its plates equally often."""
    return (k // PLATES_PER_COMPOUND + k) % len(DOSES)


def draw_optics(rng: np.random.Generator) -> Optics:
    """Random optics of one plate."""
    return Optics(
        blur=rng.uniform(0.6, 1.1),
        noise=rng.uniform(0.002, 0.012),
        shot=rng.uniform(0.01, 0.05),
        gamma=rng.uniform(0.85, 1.25),
        haze=rng.uniform(0.05, 0.5),
        slope=tuple(rng.normal(0, 0.03, 2)),
    )


def refocus(optics: Optics, rng: np.random.Generator) -> Optics:
    """The optics at one position: focus varies, and one crop in twelve is out of focus."""
    factor = rng.uniform(0.9, 1.3) if rng.random() > 1 / 12 else rng.uniform(1.8, 3.5)
    return replace(optics, blur=optics.blur * factor)


def _draw_conditions(compound_moa: Tensor, rng: np.random.Generator) -> Tensor:
    """Condition vectors, (P, D), of variance 1: correlation 0.7 within a mechanism, 0 between mechanisms."""
    shared = rng.standard_normal((len(MECHANISMS), CONDITION_SIZE))
    own = rng.standard_normal((len(compound_moa), CONDITION_SIZE))
    return torch.from_numpy(np.sqrt(0.7) * shared[compound_moa.numpy()] + np.sqrt(0.3) * own).float()

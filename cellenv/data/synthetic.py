"""The embedded world: a procedural, seeded data set of drug-treated cells with known truth.

It has the shape of BBBC021 (3 x 96 x 96, 26 compounds and 8 unseen ones, 12 mechanisms, plates with controls) and is
rendered on demand. It claims to be a benchmark, not biology.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cellenv.data.cells import CellData
from cellenv.data.phenotypes import MECHANISMS, SEEN, UNSEEN, UNTREATED, blend
from cellenv.data.rendering import Optics, render
from cellenv.data.scene import draw_scene

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PLATES, PLATES_PER_COMPOUND = 12, 4
CONDITION_SIZE = 64
TREATED_PER_COMPOUND = {"train": 400, "validation": 40, "test": 40}
CONTROLS_PER_PLATE = {"train": 150, "validation": 40, "test": 40}
DOSES = (0.75, 0.95, 1.15)  # share of the full effect


class SyntheticCells(CellData):
    """One split of the embedded world.

    split: "train", "validation" or "test"; no image is shared between them.
    unseen: the eight held-out compounds in place of the 26. Ids of compounds are the same in both.
    seed: another seed is another world: other plates, other cells, other condition vectors.
    treated: images of each compound; None takes the usual 400 or 40. Another number is another draw of the split.
    """

    channels = ("actin", "tubulin", "DNA")
    size = (3, 96, 96)
    moas = tuple(MECHANISMS)
    compounds = tuple(c for m in MECHANISMS for c in SEEN[m]) + tuple(c for m in MECHANISMS for c in UNSEEN.get(m, ()))

    def __init__(self, split: Split = "train", *, unseen: bool = False, seed: int = 0, treated: int | None = None):
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
        if treated is not None and treated < 1:
            raise ValueError(f"need treated >= 1, the images of each compound; got {treated}")
        self.split, self.seed = split, seed
        moa_of = {c: m for table in (SEEN, UNSEEN) for m, names in table.items() for c in names}
        self.compound_moa = torch.tensor([self.moas.index(moa_of[c]) for c in self.compounds])
        rng = np.random.default_rng((seed, 1))
        self._optics = [_draw_optics(rng) for _ in range(PLATES)]
        self._potency = rng.uniform(0.85, 1.1, len(self.compounds))
        self.conditions = _draw_conditions(self.compound_moa, rng)
        plates = np.stack([rng.permutation(PLATES)[:PLATES_PER_COMPOUND] for _ in self.compounds])  # (P, 4)

        n_seen = sum(len(names) for names in SEEN.values())
        ids = range(n_seen, len(self.compounds)) if unseen else range(n_seen)
        each, controls = treated or TREATED_PER_COMPOUND[split], CONTROLS_PER_PLATE[split]
        rows = [(p, plates[p, k % PLATES_PER_COMPOUND], k % len(DOSES)) for p in ids for k in range(each)]
        table = torch.tensor(rows + [(-1, plate, 0) for plate in range(PLATES) for _ in range(controls)])
        self.perturbation, self.batch, self.dose = (column.clone() for column in table.unbind(1))
        self.keys = tuple(
            f"plate{plate:02d}_{'control' if p < 0 else f'compound{p:02d}'}_{split}_{row}"
            for row, (p, plate, _) in enumerate(table.tolist())
        )
        n = len(table)
        self._pixels = np.empty((n, *self.size), np.uint8)  # pages are touched only when rendered
        self._nuclei = np.empty((n, *self.size[1:]), np.uint8)
        self._cells = np.empty((n, *self.size[1:]), np.uint8)
        self._rendered = np.zeros(n, bool)

    def images(self, rows: Tensor) -> Tensor:
        """The images of these rows, (n, 3, 96, 96) float32 in [-1, 1]; the same pixels for the same seed."""
        self._render(rows)
        return torch.from_numpy(self._pixels[rows.numpy()]).float() / 127.5 - 1

    def masks(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The truth: labels of nuclei and cells, (n, 96, 96) int32, 0 = background."""
        self._render(rows)
        return tuple(torch.from_numpy(m[rows.numpy()].astype(np.int32)) for m in (self._nuclei, self._cells))

    def _render(self, rows: Tensor) -> None:
        for row in np.unique(rows.numpy()):
            if not self._rendered[row]:
                self._pixels[row], self._nuclei[row], self._cells[row] = self._draw(int(row))
                self._rendered[row] = True

    def _draw(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        compound, plate = int(self.perturbation[row]), int(self.batch[row])
        rng = np.random.default_rng((self.seed, 2, SPLITS.index(self.split), compound + 1, row))
        look = UNTREATED
        if compound >= 0:
            strength = DOSES[self.dose[row]] * self._potency[compound] * rng.uniform(0.8, 1.15)
            look = blend(MECHANISMS[self.moas[self.compound_moa[compound]]], strength)
        size = self.size[-1]
        return render(draw_scene(look, size, rng), look, _refocus(self._optics[plate], rng), size, rng)


def _draw_optics(rng: np.random.Generator) -> Optics:
    """The microscope of one plate."""
    return Optics(
        blur=rng.uniform(0.6, 1.1),
        noise=rng.uniform(0.002, 0.012),
        shot=rng.uniform(0.01, 0.05),
        gamma=rng.uniform(0.85, 1.25),
        haze=rng.uniform(0.05, 0.5),
        slope=tuple(rng.normal(0, 0.03, 2)),
    )


def _refocus(optics: Optics, rng: np.random.Generator) -> Optics:
    """The same microscope at one position: focus varies, and one crop in twelve is out of focus."""
    factor = rng.uniform(0.9, 1.3) if rng.random() > 1 / 12 else rng.uniform(1.8, 3.5)
    return Optics(**{**vars(optics), "blur": optics.blur * factor})


def _draw_conditions(compound_moa: Tensor, rng: np.random.Generator) -> Tensor:
    """Condition vectors, (P, D): compounds of one mechanism are alike, none are equal; entries have variance one."""
    shared = rng.standard_normal((len(MECHANISMS), CONDITION_SIZE))
    own = rng.standard_normal((len(compound_moa), CONDITION_SIZE))
    return torch.from_numpy(np.sqrt(0.7) * shared[compound_moa.numpy()] + np.sqrt(0.3) * own).float()

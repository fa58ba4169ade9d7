"""What every data set of cells offers: a table of treated and control images, and draws from it.

N images, P compounds, M mechanisms of action (MoA), D condition size, n drawn, C, H, W image.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from tensordict import TensorDict
from torch import Tensor


class CellData(ABC):
    """A split of a data set. A control is paired with a treated image of the same experimental batch and split.

    channels: names of the image channels, for example ("actin", "tubulin", "DNA").
    size: (C, H, W).
    compounds, moas: names; position is the id. moas is empty where no mechanism is known.
    compound_moa: (P,) int64, the MoA id of each compound; -1: unknown.
    conditions: (P, D) float32, the embedding of each compound.
    perturbation: (N,) int64, compound id of each image, -1 for a control.
    batch: (N,) int64, experimental batch (plate) of each image.
    keys: N sample keys, unique.
    """

    channels: tuple[str, ...]
    size: tuple[int, int, int]
    compounds: tuple[str, ...]
    moas: tuple[str, ...]
    compound_moa: Tensor
    conditions: Tensor
    perturbation: Tensor
    batch: Tensor
    keys: tuple[str, ...]

    @abstractmethod
    def images(self, rows: Tensor) -> Tensor:
        """The images of these rows, (n, C, H, W) float32 in [-1, 1]."""

    def __len__(self) -> int:
        return len(self.perturbation)

    @cached_property
    def treated(self) -> Tensor:
        """Rows of the treated images."""
        return (self.perturbation >= 0).nonzero().squeeze(1)

    @cached_property
    def controls(self) -> Tensor:
        """Rows of the control images, sorted by experimental batch."""
        rows = (self.perturbation < 0).nonzero().squeeze(1)
        return rows[torch.argsort(self.batch[rows], stable=True)]

    @cached_property
    def shelves(self) -> Tensor:
        """The experimental batch of each of `controls`; an error where a treated image would find none of its own."""
        shelves = self.batch[self.controls]
        alone = self.treated[~torch.isin(self.batch[self.treated], shelves)].tolist()
        if alone:
            raise ValueError(
                f"image {self.keys[alone[0]]}: its experimental batch holds no control in this split, nor do those of"
                f" {len(alone) - 1} other treated images: leave them out, or pair by another column"
            )
        return shelves

    def compound_id(self, name: str) -> int:
        """The id of a compound by name."""
        if name not in self.compounds:
            raise ValueError(f"unknown compound {name!r}; this data set has {', '.join(self.compounds)}")
        return self.compounds.index(name)

    def draw_controls(self, batch: Tensor, rng: torch.Generator) -> Tensor:
        """Rows of random controls, one of each experimental batch in `batch`, (n,)."""
        start, end = (torch.searchsorted(self.shelves, batch, right=right) for right in (False, True))
        if (start == end).any():
            raise ValueError(f"experimental batch {int(batch[start == end][0])} holds no control in this split")
        return self.controls[start + (torch.rand(len(batch), generator=rng) * (end - start)).long()]

    def draw_treated(self, n: int, rng: torch.Generator) -> Tensor:
        """Rows of n random treated images."""
        return self.treated[torch.randint(len(self.treated), (n,), generator=rng)]

    def contexts(self, treated: Tensor, rng: torch.Generator) -> TensorDict:
        """What the generator sees in place of these treated rows: `contexts_of`, random controls of their batches."""
        if (self.perturbation[treated] < 0).any():
            raise ValueError("contexts are drawn for treated rows; these hold a control")
        return self.contexts_of(self.perturbation[treated], self.draw_controls(self.batch[treated], rng), rng)

    def contexts_of(self, perturbation: Tensor, controls: Tensor, rng: torch.Generator) -> TensorDict:
        """Compounds applied to controls, ids and rows (n,): a TensorDict of batch size (n,).

        Keys: x0 (C, H, W), the control; perturbation, condition (D,), moa; batch, the control's; and seed, which names
        the stream of the sample's own noise. No moa where the data have none.
        """
        known = {"moa": self.compound_moa[perturbation]} if self.moas else {}
        return TensorDict(
            {
                "x0": self.images(controls),
                "perturbation": perturbation,
                "condition": self.conditions[perturbation],
                **known,
                "batch": self.batch[controls],
                "seed": torch.randint(2**62, (len(controls),), generator=rng),
            },
            batch_size=[len(controls)],
        )

    def draw_contexts(self, n: int, rng: torch.Generator) -> TensorDict:
        """n random contexts."""
        return self.contexts(self.draw_treated(n, rng), rng)

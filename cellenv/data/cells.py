"""Interface of a data set of cells: a table of treated and control images, and random contexts from it.

N images, P compounds, M mechanisms of action (MoA), D condition size, n drawn, C, H, W image.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor


class CellData(ABC):
    """One split of a data set. A treated image is paired with controls of its own plate and split.

    channels: names of the image channels, for example `cellenv.images.CHANNELS`.
    size: (C, H, W).
    compounds, moas: names; the index is the id. moas is empty if the data set has no mechanisms.
    compound_moa: (P,) int64, MoA id of each compound; -1 if unknown.
    conditions: (P, D) float32, embedding of each compound.
    perturbation: (N,) int64, compound id of each image; -1 for a control.
    plate: (N,) int64, plate id of each image (column BATCH or PLATE of the table).
    keys: N unique sample keys.
    """

    channels: tuple[str, ...]
    size: tuple[int, int, int]
    compounds: tuple[str, ...]
    moas: tuple[str, ...]
    compound_moa: Tensor
    conditions: Tensor
    perturbation: Tensor
    plate: Tensor
    keys: tuple[str, ...]

    @abstractmethod
    def images(self, rows: Tensor) -> Tensor:
        """Images of these rows, (n, C, H, W) float32 in [-1, 1]."""

    def __len__(self) -> int:
        return len(self.perturbation)

    @cached_property
    def treated(self) -> Tensor:
        """Rows of the treated images."""
        return (self.perturbation >= 0).nonzero().squeeze(1)

    @cached_property
    def controls(self) -> Tensor:
        """Rows of the control images, sorted by plate."""
        rows = (self.perturbation < 0).nonzero().squeeze(1)
        return rows[torch.argsort(self.plate[rows], stable=True)]

    @cached_property
    def control_plates(self) -> Tensor:
        """Plate of each of `controls`.

        Raises:
            ValueError: if the plate of a treated image holds no control.
        """
        control_plates = self.plate[self.controls]
        unpaired = self.treated[~torch.isin(self.plate[self.treated], control_plates)].tolist()
        if unpaired:
            raise ValueError(
                f"image {self.keys[unpaired[0]]}: its plate holds no control in this split, nor do those of"
                f" {len(unpaired) - 1} other treated images: leave them out, or pair by another column"
            )
        return control_plates

    def compound_id(self, name: str) -> int:
        """Id of a compound.

        Raises:
            ValueError: if the data set has no compound of this name.
        """
        if name not in self.compounds:
            raise ValueError(f"unknown compound {name!r}; this data set has {', '.join(self.compounds)}")
        return self.compounds.index(name)

    def draw_controls(self, plate: Tensor, rng: torch.Generator) -> Tensor:
        """Rows of random controls, (n,): one for each entry of `plate`, (n,), from that plate.

        Raises:
            ValueError: if a plate holds no control in this split.
        """
        start = torch.searchsorted(self.control_plates, plate, right=False)
        end = torch.searchsorted(self.control_plates, plate, right=True)
        if (start == end).any():
            raise ValueError(f"plate {int(plate[start == end][0])} holds no control in this split")
        return self.controls[start + (torch.rand(len(plate), generator=rng) * (end - start)).long()]

    def draw_treated(self, n: int, rng: torch.Generator) -> Tensor:
        """Rows of n random treated images, (n,).

        Raises:
            ValueError: if all images are controls.
        """
        if not len(self.treated):
            raise ValueError(f"need treated images to draw contexts from; these {len(self)} images are controls")
        return self.treated[torch.randint(len(self.treated), (n,), generator=rng)]

    def contexts(self, treated: Tensor, rng: torch.Generator) -> TensorDict:
        """Contexts of these treated rows, (n,): their compounds applied to random controls of their plates.

        Raises:
            ValueError: if a row is a control.
        """
        if (self.perturbation[treated] < 0).any():
            raise ValueError("contexts are drawn for treated rows; these hold a control")
        return self.contexts_of(self.perturbation[treated], self.draw_controls(self.plate[treated], rng), rng)

    def contexts_of(self, perturbation: Tensor, controls: Tensor, rng: torch.Generator) -> TensorDict:
        """Contexts of compounds applied to controls, ids and rows (n,): a TensorDict of batch size (n,).

        Keys: x0 (C, H, W), the control image; perturbation; condition (D,); moa, if the data set has any;
        plate of the control; seed, the random stream of the sample's noise.
        """
        known = {"moa": self.compound_moa[perturbation]} if self.moas else {}
        return TensorDict(
            {
                "x0": self.images(controls),
                "perturbation": perturbation,
                "condition": self.conditions[perturbation],
                **known,
                "plate": self.plate[controls],
                "seed": torch.randint(2**62, (len(controls),), generator=rng),
            },
            batch_size=[len(controls)],
        )

    def moa_names(self, perturbation: Tensor) -> list[str]:
        """The MoA of each of these compounds, ids (n,): "unknown" where it is, or if the data set has no MoAs."""
        return [self.moas[m] if m >= 0 else "unknown" for m in self.compound_moa[perturbation.cpu()].tolist()]

    def class_names(self, contexts: TensorDictBase) -> list[str]:
        """The MoA of each context, or its compound if the data set has no MoAs."""
        perturbation = contexts["perturbation"]
        return self.moa_names(perturbation) if self.moas else [self.compounds[p] for p in perturbation.tolist()]

    def draw_contexts(self, n: int, rng: torch.Generator) -> TensorDict:
        """n random contexts."""
        return self.contexts(self.draw_treated(n, rng), rng)

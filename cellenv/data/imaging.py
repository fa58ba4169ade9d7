"""Cell images on disk in the layout that the public CellFlux and IMPA releases share.

    FOLDER/*_df_all.csv     one row an image: SAMPLE_KEY, BATCH, PLATE, CPD_NAME, ANNOT (MoA), STATE, SPLIT, ...
    FOLDER/emb_*.csv        one row a compound: name, then its D numbers
    FOLDER/Week6/31661/6_246_80.0.npy     uint8 (H, W, C), for SAMPLE_KEY Week6_31661_6_246_80.0

These are the names of BBBC021; `cellenv.data.presets` holds those of other data sets.
N images, P compounds, M mechanisms of action (MoA), D condition size, n drawn, C, H, W image.
"""

import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cellenv.data.cells import CellData
from cellenv.data.packed import ImageFiles, PackedImages
from cellenv.data.presets import BBBC021, BBBC021_UNSEEN, Layout
from cellenv.data.table import Faults, Row, condition_of, only_file, read_embedding, read_table

__all__ = ["BBBC021_UNSEEN", "ImagingCells", "to_unit_range"]

SHOWN = 5  # faults that a warning lists


def to_unit_range(raw: Tensor) -> Tensor:
    """2 X / 255 - 1 of bytes X, float32 in [-1, 1], on their device."""
    return raw.float().mul_(2 / 255).sub_(1)


class ImagingCells(CellData):
    """A split of a folder of images; the tables are read at once, pixels when asked for.

    split: "train", "test" or another value of SPLIT; None takes all rows.
    layout: what the data set calls its files, columns and channels.
    unseen: False leaves treated images of `unseen_compounds` out, True takes only those, None all. Controls stay.
    cache: a folder for one packed copy of all images, made at the first use; it serves every split. None reads files.
    skip_bad: rows that cannot be used are left out, counted in a warning and listed in `skipped`. Else the first one
        is an error: of the tables and of a packed copy now, of an image file when it is read, of a batch without
        controls when controls are drawn.
    unseen_compounds, pairing, channels: in place of the layout's.
    Ids of compounds, MoAs and batches depend on the whole table, not on the split: names in sorted order.
    A table without MoA (layout.label is None) leaves `moas` empty, `compound_moa` -1, and contexts without "moa".
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = "train",
        *,
        layout: Layout = BBBC021,
        unseen: bool | None = False,
        cache: str | Path | None = None,
        skip_bad: bool = False,
        unseen_compounds: Collection[str] | None = None,
        pairing: str | None = None,
        channels: tuple[str, ...] | None = None,
    ):
        changes = {"unseen": unseen_compounds, "pairing": pairing, "stains": channels}
        self.path, faults = Path(path), Faults(skip_bad)
        self.layout = layout = replace(layout, **{name: value for name, value in changes.items() if value is not None})
        self.channels = layout.channels
        table = self._read_tables(faults)

        places = [i for i, row in enumerate(table) if split in (None, row["SPLIT"]) and self._wanted(row, unseen)]
        if not places:
            splits = sorted({row["SPLIT"] for row in table})
            raise ValueError(f"no image of split {split!r} in {self.path}; it has {splits}")
        files = ImageFiles(self.path, [row["SAMPLE_KEY"] for row in table], layout.file, len(self.channels))
        self._store = files if cache is None else PackedImages(files, Path(cache))
        if skip_bad or cache is not None:
            places = faults.sift(places, self._store.check)
        if skip_bad:
            places = faults.sift(places, self._has_control(table, places))

        rows = [table[place] for place in places]
        compound_id = {name: i for i, name in enumerate(self.compounds)}
        batch_id = {name: i for i, name in enumerate(sorted({row[layout.pairing] for row in table}))}
        self._places = torch.tensor(places, dtype=torch.int64)
        self.keys = tuple(row["SAMPLE_KEY"] for row in rows)
        ids = [compound_id[row[layout.compound]] if self._treated(row) else -1 for row in rows]
        self.perturbation = torch.tensor(ids, dtype=torch.int64)
        self.batch = torch.tensor([batch_id[row[layout.pairing]] for row in rows], dtype=torch.int64)
        self.size = (len(self.channels), *self._store.shape[:2])
        self.skipped = tuple(faults.found)
        if self.skipped:
            shown = "\n".join([*self.skipped[:SHOWN], *["..."] * (len(self.skipped) > SHOWN)])
            warnings.warn(f"{len(self.skipped)} rows of {self.path} are left out:\n{shown}")

    def images(self, rows: Tensor) -> Tensor:
        """2 X / 255 - 1 of the stored bytes X, (n, C, H, W) float32."""
        return to_unit_range(self.raw(rows))

    def raw(self, rows: Tensor) -> Tensor:
        """The stored bytes, (n, C, H, W) uint8; a quarter of the memory on the way to a GPU and `to_unit_range`."""
        return self._store.raw(self._places[rows])

    def add_compound(self, name: str, condition: Tensor, moa: str | None = None) -> int:
        """Add a compound without images, to be applied to controls; returns its id, others keep theirs.

        condition: (D,), for example `cellenv.data.fingerprints.morgan_counts(smiles)`. moa: one of `moas`, or unknown.
        """
        if name in self.compounds:
            raise ValueError(f"compound {name!r} is there already")
        if condition.shape != self.conditions.shape[1:] or not condition.isfinite().all():
            need, came = tuple(self.conditions.shape[1:]), tuple(condition.shape)
            raise ValueError(f"the condition of {name!r} needs finite numbers of shape {need}; got {came}")
        if moa is not None and moa not in self.moas:
            raise ValueError(f"unknown mechanism of action {moa!r}; these data have {', '.join(self.moas) or 'none'}")
        moa_id = -1 if moa is None else self.moas.index(moa)
        self.compounds = (*self.compounds, name)
        self.conditions = torch.cat([self.conditions, condition.to(self.conditions)[None]])
        self.compound_moa = torch.cat([self.compound_moa, torch.tensor([moa_id])])
        return len(self.compounds) - 1

    def _read_tables(self, faults: Faults) -> list[Row]:
        """The rows that are sound in themselves; sets compounds, conditions, MoAs."""
        layout, moa_of = self.layout, {}
        table = read_table(only_file(self.path, layout.index), layout, faults)
        found = read_embedding(only_file(self.path, layout.embedding))

        def check(row: Row) -> None:
            if not self._treated(row):
                return
            condition_of(row, layout, found)
            name, moa = row[layout.compound], row[layout.label] if layout.label else None
            if moa_of.setdefault(name, moa) != moa:
                other = moa_of[name]
                raise ValueError(f"{row['SAMPLE_KEY']}: compound {name!r} has MoA {moa!r}, elsewhere {other!r}")

        table = faults.sift(table, check)
        self.compounds = tuple(sorted(moa_of))
        self.conditions = torch.stack([found[name] for name in self.compounds]) if moa_of else torch.empty(0, 0)
        self.moas = tuple(sorted(set(moa_of.values()))) if layout.label else ()
        ids = {moa: i for i, moa in enumerate(self.moas)}
        self.compound_moa = torch.tensor([ids.get(moa_of[name], -1) for name in self.compounds], dtype=torch.int64)
        return table

    def _treated(self, row: Row) -> bool:
        return bool(self.layout.states[row[self.layout.state]])

    def _wanted(self, row: Row, unseen: bool | None) -> bool:
        """Controls always; treated images by whether their compound is held out."""
        return unseen is None or not self._treated(row) or (row[self.layout.compound] in self.layout.unseen) == unseen

    def _has_control(self, table: list[Row], places: list[int]) -> Callable[[int], None]:
        """A check: the batch of the treated image at a place holds a control among these places."""
        pairing = self.layout.pairing
        served = {table[place][pairing] for place in places if not self._treated(table[place])}

        def check(place: int) -> None:
            row = table[place]
            if self._treated(row) and row[pairing] not in served:
                raise ValueError(f"image {row['SAMPLE_KEY']}: {pairing} {row[pairing]} holds no control in this split")

        return check

"""Cell images on disk, in the layout of the published CellFlux and IMPA data.

    FOLDER/*_df_all.csv     one row per image: SAMPLE_KEY, BATCH, PLATE, CPD_NAME, ANNOT (MoA), STATE, SPLIT, ...
    FOLDER/emb_*.csv        one row per compound: name, then its D numbers
    FOLDER/Week6/31661/6_246_80.0.npy     uint8 (H, W, C), for SAMPLE_KEY Week6_31661_6_246_80.0

These are the names in BBBC021; `cellenv.data.layouts` has those of other data sets.
N images, P compounds, M mechanisms of action (MoA), D condition size, n drawn, C, H, W image.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cellenv.csv_io import Row
from cellenv.data.cells import CellData
from cellenv.data.layouts import BBBC021, Layout
from cellenv.data.packed import ImageFiles, PackedImages
from cellenv.data.table import UNSEEN, RowErrors, condition_of, find_file, is_held_out, read_embedding, read_table
from cellenv.images import from_uint8

SHOWN = 5  # row errors that a warning lists


class ImagingCells(CellData):
    """One split of a folder of images. Tables are read at once, images on access.

    split: "train", "test" or another value of the column SPLIT; None takes all rows.
    layout: names of files, columns and channels; `dataclasses.replace(BBBC021, ...)` changes some of them.
    unseen: False drops treated images of held-out compounds (those with 1 in a column UNSEEN, without one those
        that the layout names), True keeps only those, None keeps all. Controls are always kept.
    cache: folder for a packed copy of all images, made at the first use and shared by all splits. None reads
        the files.
    skip_bad: drop invalid rows, count them in a warning and list them in `skipped`. Otherwise the first one
        raises: an invalid table or packed image at once, an image file when it is read, a plate without
        controls when controls are drawn.
    pairing: column shared by a treated image and its controls, in place of the layout's.

    Ids of compounds, MoAs and plates are indices into the sorted names of the whole table, the same in every
    split. Without a MoA column (layout.label is None), `moas` is empty, `compound_moa` is -1, and contexts
    have no "moa".

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: if a table is invalid, or no image is left, or no treated one of those in the table.
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
        pairing: str | None = None,
    ):
        self.path, row_errors = Path(path), RowErrors(skip_bad)
        self.layout = layout if pairing is None else replace(layout, pairing=pairing)
        self.channels = layout.channels
        table = self._read_tables(row_errors)

        indices = self._select(table, split, unseen, row_errors)
        files = ImageFiles(self.path, [row["SAMPLE_KEY"] for row in table], layout.file, len(self.channels))
        self._store = files if cache is None else PackedImages(files, Path(cache))
        if skip_bad or cache is not None:
            indices = row_errors.filter(indices, self._store.check)
        if skip_bad:
            indices = row_errors.filter(indices, self._control_check(table, indices))
        self.skipped = tuple(row_errors.found)
        if any(map(self._is_treated, table)) and not any(self._is_treated(table[i]) for i in indices):
            raise ValueError(f"no treated image is left: {_shown(self.skipped, self.path)}")
        height, width, _ = self._store.shape
        self.size = len(self.channels), height, width
        self._set_rows(table, indices)
        if self.skipped:
            warnings.warn(_shown(self.skipped, self.path))

    def images(self, rows: Tensor) -> Tensor:
        """Images X / 127.5 - 1 of the stored bytes X, (n, C, H, W) float32 in [-1, 1]."""
        return from_uint8(self.raw(rows))

    def raw(self, rows: Tensor) -> Tensor:
        """Stored bytes, (n, C, H, W) uint8: a quarter of the memory to move to a GPU before `from_uint8`."""
        return self._store.raw(self._indices[rows])

    def add_compound(self, name: str, condition: Tensor, moa: str | None = None) -> int:
        """Add a compound without images, for example to apply it to controls; returns its id.

        condition: (D,), for example `cellenv.data.fingerprints.morgan_counts(smiles)`. moa: one of `moas`, or
        None if unknown. The ids of other compounds do not change.

        Raises:
            ValueError: if the name is taken, the MoA is unknown, or the condition has another size or is not finite.
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

    def _read_tables(self, row_errors: RowErrors) -> list[Row]:
        """Rows of the image table that are valid by themselves; sets compounds, conditions and MoAs."""
        layout = self.layout
        moa_of: dict[str, str] = {}
        table = read_table(find_file(self.path, layout.index, "--index"), layout, row_errors)
        names = {row[layout.compound] for row in table}
        found = read_embedding(find_file(self.path, layout.embedding, "--embeddings"), names)
        conditions: dict[str, Tensor] = {}
        count = Counter((row[layout.compound], self._label(row)) for row in table if self._is_treated(row))
        most_common = dict(sorted(count, key=lambda named: (count[named], named)))  # {compound: MoA}
        held_out = {row[layout.compound] for row in table if self._is_treated(row) and is_held_out(row, layout)}

        def check(row: Row) -> None:
            if not self._is_treated(row):
                return
            name, moa = row[layout.compound], self._label(row)
            conditions[name] = condition_of(row, layout, found)
            if (other := most_common[name]) != moa:
                raise ValueError(f"{row['SAMPLE_KEY']}: compound {name!r} has MoA {moa!r}, elsewhere {other!r}")
            if name in held_out and not is_held_out(row, layout):
                raise ValueError(
                    f"{row['SAMPLE_KEY']}: need {UNSEEN} as in other rows of compound {name!r}, which hold it out; got"
                    f" {row.get(UNSEEN, '')!r}"
                )
            moa_of[name] = moa

        with_treated = any(map(self._is_treated, table))
        table = row_errors.filter(table, check)
        if with_treated and not moa_of:
            raise ValueError(f"no treated image is left: {_shown(row_errors.found, self.path)}")
        self.compounds = tuple(sorted(moa_of))
        self.conditions = torch.stack([conditions[name] for name in self.compounds]) if moa_of else torch.empty(0, 0)
        self.moas = tuple(sorted(set(moa_of.values()))) if layout.label else ()
        ids = {moa: i for i, moa in enumerate(self.moas)}
        moa_ids = [ids.get(moa_of[name], -1) for name in self.compounds]
        self.compound_moa = torch.tensor(moa_ids, dtype=torch.int64)
        return table

    def _set_rows(self, table: list[Row], indices: list[int]) -> None:
        """Set keys, perturbation and plate of the table's rows at these indices."""
        layout, rows = self.layout, [table[i] for i in indices]
        compound_id = {name: i for i, name in enumerate(self.compounds)}
        plate_id = {name: i for i, name in enumerate(sorted({row[layout.pairing] for row in table}))}
        ids = [compound_id[row[layout.compound]] if self._is_treated(row) else -1 for row in rows]
        self._indices = torch.tensor(indices, dtype=torch.int64)  # row -> index into the image store
        self.keys = tuple(row["SAMPLE_KEY"] for row in rows)
        self.perturbation = torch.tensor(ids, dtype=torch.int64)
        self.plate = torch.tensor([plate_id[row[layout.pairing]] for row in rows], dtype=torch.int64)

    def _select(self, table: list[Row], split: str | None, unseen: bool | None, row_errors: RowErrors) -> list[int]:
        """Indices of the rows of a split that `unseen` keeps.

        Raises:
            ValueError: the table has no row of the split, or none of its treated rows is kept; says what left them out.
        """
        in_split = [i for i, row in enumerate(table) if split in (None, row["SPLIT"])]
        splits = ", ".join(sorted({row["SPLIT"] for row in table})) or "none"
        if not in_split:
            invalid = f"; {_shown(row_errors.found, self.path)}" if row_errors.found else ""
            raise ValueError(f"no image of split {split!r} in {self.path}; it has {splits} (--split-names){invalid}")
        kept = [i for i in in_split if self._is_selected(table[i], unseen)]
        treated = sum(map(self._is_treated, table))
        here = sum(self._is_treated(table[i]) for i in in_split)
        if treated and not any(self._is_treated(table[i]) for i in kept):
            held_out = "not held out, which --unseen leaves out" if unseen else "held out (--include-unseen)"
            raise ValueError(
                f"no treated image of {self.path} is left of {treated}: {treated - here} are of other splits than"
                f" {split!r} ({splits}; --split-names), {here} of compounds that are {held_out}"
            )
        return kept

    def _label(self, row: Row) -> str:
        """MoA of the row, "" in a layout without."""
        return row[self.layout.label] if self.layout.label else ""

    def _is_treated(self, row: Row) -> bool:
        return bool(self.layout.states[row[self.layout.state]])

    def _is_selected(self, row: Row, unseen: bool | None) -> bool:
        """Whether `unseen` keeps the row; controls are always kept."""
        return unseen is None or not self._is_treated(row) or is_held_out(row, self.layout) == unseen

    def _control_check(self, table: list[Row], indices: list[int]) -> Callable[[int], None]:
        """A check that the plate of the treated image at an index has a control among these indices."""
        pairing = self.layout.pairing
        plates = {table[i][pairing] for i in indices if not self._is_treated(table[i])}

        def check(index: int) -> None:
            row = table[index]
            if self._is_treated(row) and row[pairing] not in plates:
                raise ValueError(f"image {row['SAMPLE_KEY']}: {pairing} {row[pairing]} holds no control in this split")

        return check


def _shown(errors: Sequence[str], path: Path) -> str:
    """The number of rows that are left out, and the first few errors."""
    return "\n".join([f"{len(errors)} rows of {path} are left out:", *errors[:SHOWN], *["..."] * (len(errors) > SHOWN)])

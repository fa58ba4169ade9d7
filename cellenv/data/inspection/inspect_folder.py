"""Inspect a folder of cells: both tables, and every image once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from cellenv.csv_io import Row
from cellenv.data.inspection.findings import Inspection
from cellenv.data.inspection.image_scan import HISTOGRAM_IMAGES, scan_images
from cellenv.data.inspection.problems import (
    SKIP,
    SPLITS,
    TableRows,
    as_warning,
    class_problems,
    condition_problems,
    control_problems,
    held_out_problems,
    image_problems,
    label_problems,
    split_problems,
    table_problems,
)
from cellenv.data.layouts import BBBC021, Layout
from cellenv.data.packed import ImageFiles
from cellenv.data.table import RowErrors, find_file, read_embedding, read_table

VERSION = 3  # of what an inspection finds; part of its fingerprint


@dataclass(frozen=True, kw_only=True)
class CellFolder:
    """A folder whose tables are read, and whose images are not.

    include_unseen: held-out compounds are trained on too. skip_bad: rows that cannot be used stop nothing.
    splits: those that are used. min_cells: images that a class needs in the train split.
    """

    path: Path
    layout: Layout
    index: Path
    embedding: Path
    table: list[Row]
    errors: RowErrors
    conditions: Mapping[str, Tensor | str]
    include_unseen: bool
    skip_bad: bool
    splits: tuple[str, ...]
    min_cells: int

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        layout: Layout = BBBC021,
        include_unseen: bool = False,
        skip_bad: bool = False,
        splits: tuple[str, ...] = SPLITS,
        min_cells: int = 30,
    ) -> "CellFolder":
        """Read both tables.

        Raises:
            FileNotFoundError: a table is missing, or there are several.
            ValueError: a table lacks a column.
        """
        path, errors = Path(path), RowErrors(skip=True)
        index = find_file(path, layout.index, "--index")
        embedding = find_file(path, layout.embedding, "--embeddings")
        table = read_table(index, layout, errors)
        return cls(
            path=path,
            layout=layout,
            index=index,
            embedding=embedding,
            table=table,
            errors=errors,
            conditions=read_embedding(embedding, {row[layout.compound] for row in table}),
            include_unseen=include_unseen,
            skip_bad=skip_bad,
            splits=splits,
            min_cells=min_cells,
        )

    @property
    def files(self) -> ImageFiles:
        """The files of the images, in the order of the table."""
        keys = [row["SAMPLE_KEY"] for row in self.table]
        return ImageFiles(self.path, keys, self.layout.file, len(self.layout.channels))

    def fingerprint(self) -> str:
        """Digest of the tables, of the sizes and times of the image files, and of how they are looked at."""
        layout = {**vars(self.layout), "file": self.layout.file.__name__}
        settings = (
            VERSION,
            layout,
            self.include_unseen,
            self.skip_bad,
            self.splits,
            self.min_cells,
            str(self.path.absolute()),
        )
        digest = hashlib.sha256(f"{settings} {self.files.state()}".encode())
        for file in (self.index, self.embedding):
            digest.update(file.read_bytes())
        return digest.hexdigest()


def inspect_folder(folder: CellFolder) -> Inspection:
    """Read every image once, one by one, and collect facts and problems."""
    layout, table, files = folder.layout, folder.table, folder.files
    bar = tqdm(range(len(table)), desc=f"check {folder.path.name}", unit="image", disable=None)
    scan = scan_images(files, bar, layout.channels, every=max(1, len(table) // HISTOGRAM_IMAGES))
    rows = TableRows(table, layout, include_unseen=folder.include_unseen, splits=folder.splits)
    problems = [
        *table_problems(folder.errors, folder.index),
        *condition_problems(rows, folder.conditions, folder.embedding),
        *label_problems(rows),
        *held_out_problems(rows),
        *split_problems(rows),
        *control_problems(rows),
        *class_problems(rows, folder.min_cells),
        *image_problems(scan, rows),
    ]
    if folder.skip_bad:
        problems = [as_warning(problem) if SKIP in problem.mend else problem for problem in problems]
    valid = [value for value in folder.conditions.values() if not isinstance(value, str)]
    return Inspection(
        folder=str(folder.path),
        index=str(folder.index),
        embedding=str(folder.embedding),
        labelled=layout.label is not None,
        pairing=layout.pairing,
        channels=layout.channels,
        size=files.shape[:2] if len(scan.unreadable) < len(table) else None,
        condition_size=len(valid[0]) if valid else 0,
        min_cells=folder.min_cells,
        treated=len(rows.treated),
        controls=len(rows.controls),
        compounds=len({row[layout.compound] for row in rows.treated}),
        contexts=sum(n // 2 for n in rows.count("test", layout.compound).values()),
        splits=tuple(sorted({row["SPLIT"] for row in table})),
        classes=rows.classes(),
        plates=rows.plates(),
        histograms=tuple(tuple(int(n) for n in histogram) for histogram in scan.histograms),
        problems=tuple(sorted(problems, key=lambda problem: not problem.stops)),
    )

"""Conditions from structures: Morgan count fingerprints, as in the published emb_fp.csv. Needs RDKit.

D condition size.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellenv.csv_io import read_lines, write_rows
from cellenv.data.table import is_header


def morgan_counts(smiles: str, *, radius: int = 2, size: int = 1024) -> Tensor:
    """Counts of the circular substructures of up to `radius` bonds, hashed to D = size entries; (D,) float32.

    Source: Rogers & Hahn, Extended-connectivity fingerprints (2010). Chirality is ignored.

    Raises:
        ValueError: if smiles is not a molecule.
        ImportError: if RDKit is not installed.
    """
    chem, generators, logs = import_rdkit()
    with logs.BlockLogs():  # the error below replaces its log
        molecule = chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        raise ValueError(f"need the SMILES of a molecule; got {smiles!r}")
    counts = generators.GetMorganGenerator(radius=radius, fpSize=size).GetCountFingerprintAsNumPy(molecule)
    return torch.from_numpy(counts.astype("float32"))


def add_to_embedding(file: str | Path, smiles: Mapping[str, str], *, radius: int = 2, size: int = 1024) -> None:
    """Append compounds {name: SMILES} to a table of fingerprints, created if absent. All or nothing.

    A table of another dress, see `read_lines`, is written anew as CSV by commas in UTF-8; it needs no header.

    Raises:
        ValueError: if a name is in the table already, a SMILES is no molecule, or the table is empty or has another
            size, or cannot be read.
        ImportError: if RDKit is not installed.
    """
    file = Path(file)
    lines = list(read_lines(file)) if file.exists() else [(1, ["", *map(str, range(size))])]
    rows: list[list[object]] = [[*cells] for _, cells in lines]
    if not lines or lines[0][0] != 1:
        raise ValueError(f"{file} is empty, or begins with an empty line: delete it to have a header written")
    first = lines[0][1]
    if len(first) - 1 != size:
        raise ValueError(f"{file} has {len(first) - 1} numbers a compound; the fingerprints have {size}: give its size")
    names = [name.strip() for name in smiles]
    there = {cells[0] for _, cells in lines[is_header(first, names) :]}
    if known := sorted(name for name, n in Counter([*names, *there]).items() if n > 1):
        raise ValueError(f"{file} has {', '.join(map(repr, known))} already")
    for name, structure in zip(names, smiles.values(), strict=True):
        try:
            rows.append([name, *morgan_counts(structure, radius=radius, size=size).int().tolist()])
        except ValueError as error:
            raise ValueError(f"compound {name!r}: {error}") from error
    write_rows(file, rows)


def import_rdkit() -> tuple[Any, Any, Any]:
    """RDKit's modules (Chem, rdFingerprintGenerator, rdBase).

    Raises:
        ImportError: if RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError as error:
        raise ImportError("fingerprints from SMILES need the package rdkit: pip install 'cellfluxrl[chem]'") from error
    return Chem, rdFingerprintGenerator, rdBase

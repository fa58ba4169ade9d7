"""Conditions from structures: Morgan count fingerprints, as in the published emb_fp.csv. Needs RDKit.

D condition size.
"""

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellenv.weights_io import write_atomically


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
    """Append compounds {name: SMILES} to a CSV of fingerprints, created if absent. All or nothing.

    Raises:
        ValueError: if a name is in the file already, a SMILES is no molecule, or the file is empty or has another size.
        ImportError: if RDKit is not installed.
    """
    file = Path(file)
    content = StringIO(newline="")
    text = file.read_text(encoding="utf-8-sig") if file.exists() else ",".join(["", *map(str, range(size))]) + "\n"
    rows = list(csv.reader(StringIO(text, newline="")))
    first = rows[0] if rows else []
    if not first:
        raise ValueError(f"{file} is empty, or begins with an empty line: need a header; delete it to have one written")
    if len(first) - 1 != size:
        raise ValueError(f"{file} has {len(first) - 1} numbers a compound; the fingerprints have {size}: give its size")
    if known := sorted(smiles.keys() & {row[0] for row in rows[1:] if row}):
        raise ValueError(f"{file} has {', '.join(map(repr, known))} already")
    content.write(text if text.endswith("\n") else f"{text}\n")
    writer = csv.writer(content, lineterminator="\n")
    for name, structure in smiles.items():
        try:
            writer.writerow([name, *morgan_counts(structure, radius=radius, size=size).int().tolist()])
        except ValueError as error:
            raise ValueError(f"compound {name!r}: {error}") from error
    write_atomically(file, content.getvalue().encode())


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

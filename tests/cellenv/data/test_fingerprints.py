import csv
import os
import sys
from pathlib import Path

import pytest
import torch

from cellenv.data import fingerprints
from cellenv.data.table import read_embedding

DATA = os.environ.get("BBBC021_CELLS")  # folder of the published cells


@pytest.fixture
def rdkit():
    pytest.importorskip("rdkit")


def test_without_rdkit_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"pip install 'cellfluxrl\[chem\]'"):
        fingerprints.morgan_counts("CC")


@pytest.mark.parametrize(("radius", "expected"), [(0, [2, 2]), (1, [2, 2, 2, 2]), (2, [1, 2, 2, 2, 2])])
def test_counts_of_butane_are_those_by_hand(rdkit, radius, expected):
    """Two CH3, two CH2; each with its neighbours; and from a CH2 the whole molecule, which is counted once."""
    counts = fingerprints.morgan_counts("CCCC", radius=radius)
    assert counts.dtype == torch.float32 and counts.shape == (1024,)
    assert sorted(counts[counts > 0].tolist()) == expected


@pytest.mark.parametrize("smiles", ["", "no molecule", "C1CC"])
def test_invalid_smiles_are_refused_without_rdkit_logs(rdkit, smiles, capfd):
    with pytest.raises(ValueError, match=f"{smiles!r}"):
        fingerprints.morgan_counts(smiles)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not DATA, reason="set BBBC021_CELLS to the folder of the published cells")
def test_fingerprints_equal_the_published_ones(rdkit):
    published = read_embedding(Path(DATA) / "emb_fp.csv")
    with (Path(DATA) / "bbbc021_df_all.csv").open(newline="") as stream:
        smiles = {row["CPD_NAME"]: row["SMILES"] for row in csv.DictReader(stream)} | {"DMSO": "CS(C)=O"}
    assert len(published) == 35 and published.keys() == smiles.keys()
    for name, condition in published.items():
        assert torch.equal(fingerprints.morgan_counts(smiles[name]), condition), name


@pytest.mark.parametrize("content", ["", "\n", "\na,1\n"])
def test_a_table_without_a_header_is_named(tmp_path, content):
    (tmp_path / "emb.csv").write_text(content)
    with pytest.raises(ValueError, match=r"emb\.csv is empty, or begins with an empty line"):
        fingerprints.add_to_embedding(tmp_path / "emb.csv", {"ethane": "CC"}, size=16)


def test_compounds_are_added_to_a_table_whole_or_not_at_all(rdkit, tmp_path):
    file = tmp_path / "emb_fp.csv"
    fingerprints.add_to_embedding(file, {"ethane": "CC", "a, b": "CCO"}, size=16)
    fingerprints.add_to_embedding(file, {"nova/2": "c1ccccc1"}, size=16)
    found = read_embedding(file)
    assert list(found) == ["ethane", "a, b", "nova/2"]
    assert torch.equal(found["nova/2"], fingerprints.morgan_counts("c1ccccc1", size=16))
    before = file.read_text()
    for smiles, size, message in [
        ({"propane": "CCC", "bad": "C1"}, 16, "'bad'.*'C1'"),
        ({"propane": "CCC", "ethane": "CC"}, 16, "'ethane' already"),
        ({"propane": "CCC"}, 32, "16 numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            fingerprints.add_to_embedding(file, smiles, size=size)
    assert file.read_text() == before

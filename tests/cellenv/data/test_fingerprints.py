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


@pytest.fixture
def ones(monkeypatch):
    """Fingerprints of ones, without RDKit."""
    monkeypatch.setattr(fingerprints, "morgan_counts", lambda smiles, radius, size: torch.ones(size))


@pytest.mark.parametrize(
    "content",
    [
        ",0,1\ntaxol,3,4",
        ";0;1\r\n taxol ;3;4\r\n",
        ",0,1\rtaxol,3,4\r\r",
        "taxol,3,4\n",
        '"name"\t"1"\t"2"\n"taxol"\t3\t4\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_compounds_are_added_to_a_table_as_it_is_read(ones, tmp_path, content, encoding):
    file = tmp_path / "emb.csv"
    file.write_bytes(content.encode(encoding))
    fingerprints.add_to_embedding(file, {" növa, 2": "CC"}, size=2)
    found = {name: values.tolist() for name, values in read_embedding(file, {"taxol"}).items()}
    assert found == {"taxol": [3, 4], "növa, 2": [1, 1]}
    with pytest.raises(ValueError, match=r"emb\.csv has 'taxol' already"):
        fingerprints.add_to_embedding(file, {"taxol ": "CC"}, size=2)
    with pytest.raises(ValueError, match=r"emb\.csv has 2 numbers"):
        fingerprints.add_to_embedding(file, {"new": "CC"}, size=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"taxol,1,2\nb,3,4\n", "has 'c', 'taxol' already"),  # no header, though it counts
        (b",0,1\ntaxol ,3,4\n", "has 'c', 'taxol' already"),
        (b",0,1\nb,3,4\n", "has 'c' already"),
        (b',0,1\n"b,3,4\n', "line 2: .*to end with it"),
        (b",0,1\nL\xf6st,3,4\n", "line 2: need UTF-8"),
    ],
)
def test_a_table_that_cannot_be_added_to_stays_as_it_is(ones, tmp_path, content, message):
    file = tmp_path / "emb.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"emb\.csv.*{message}"):
        fingerprints.add_to_embedding(file, {"taxol": "CC", "c": "CC", "c ": "CC"}, size=2)
    assert file.read_bytes() == content

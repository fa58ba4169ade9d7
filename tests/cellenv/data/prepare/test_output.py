import numpy as np
import pytest

from cellenv.data.imaging import ImagingCells
from cellenv.data.layouts import week_plate_name
from cellenv.data.prepare.fields import Field
from cellenv.data.prepare.output import (
    compute_conditions,
    count_plates,
    index_rows,
    read_conditions,
    write_tables,
)
from cellenv.data.prepare.wells import save_crop

FIELDS = [
    Field(batch="W", plate="1", well="A01", site="1", planes=(), compound="a, b", dose=0.3, moa="m", smiles="CC"),
    Field(batch="W", plate="1", well="A02", site="1", planes=(), compound="DMSO", moa="DMSO", is_control=True),
    Field(batch="W", plate="1", well="A03", site="1", planes=(), compound="c", moa="m"),
]


def record(field, n):
    cells = [{"key": f"{field.name}_{k}", "object": k, "y": 1.5, "x": 2.5, "area": 99} for k in range(1, n + 1)]
    return {"cells": cells, "nuclei": n + 2, "rejected": {"border": 2}}


RECORDS = {field.name: record(field, 2) for field in FIELDS[:2]}
SPLIT = {("W_1", well): "train" for well in ("A01", "A02", "A03")}


def test_the_tables_are_those_of_the_reader(tmp_path):
    rows = index_rows(FIELDS, RECORDS, SPLIT, unseen=["a, b"])
    write_tables(tmp_path, rows, [["a, b", "1", "2"]])
    for row in rows:
        save_crop(tmp_path / week_plate_name(str(row["SAMPLE_KEY"])), np.zeros((4, 4, 3), np.uint8))
    cells = ImagingCells(tmp_path, unseen=True)
    assert cells.keys == ("W_1_A01_s1_1", "W_1_A01_s1_2", "W_1_A02_s1_1", "W_1_A02_s1_2")
    assert cells.compounds == ("a, b",) and cells.moas == ("m",) and cells.conditions.tolist() == [[1, 2]]
    assert cells.perturbation.tolist() == [0, 0, -1, -1]
    assert [row["DOSE"] for row in rows] == ["0.3", "0.3", "0", "0"] and rows[0]["SMILES"] == "CC"
    with pytest.raises(ValueError, match=r"no (treated )?image"):
        ImagingCells(tmp_path, "test")


def test_wells_outside_the_split_have_no_rows():
    rows = index_rows(FIELDS, RECORDS, {("W_1", "A02"): "test"}, unseen=[])
    assert [(row["WELL"], row["SPLIT"], row["UNSEEN"]) for row in rows] == [("A02", "test", 0)] * 2


def test_counts_of_a_plate():
    assert count_plates(FIELDS, RECORDS) == {"W_1": {"wells": 2, "fields": 2, "nuclei": 8, "cells": 4, "border": 4}}


def test_conditions_of_a_table(tmp_path):
    file = tmp_path / "e.csv"
    file.write_text('name,x,y\n"A, B",1,2e-1\nc,3,4\n')
    assert read_conditions(file, ["a, b"]) == [["a, b", "1", "2e-1"]]
    with pytest.raises(ValueError, match="no row for d, e"):
        read_conditions(file, ["c", "d", "e"])
    for content in ("a,3,5\nc,3,4\n", ",0,1\na,3,5,\nc,3,4\n", "name;x;y\na;3;5\nc;3;4\n"):
        file.write_text(content)
        assert read_conditions(file, ["a", "c"]) == [["a", "3", "5"], ["c", "3", "4"]]
    file.write_text("name,x,y\na,1,\n")
    with pytest.raises(ValueError, match=r"'a': 1 numbers, the first row has 2"):
        read_conditions(file, ["a"])
    for row, message in (("a,,1", "'a'.*''"), ("a,1,2\nA,3,4", "two rows for a: remove one")):
        file.write_text(f"name,x,y\n{row}\n")
        with pytest.raises(ValueError, match=message):
            read_conditions(file, ["a"])
    file.write_text("name,x\nc,many\n")
    with pytest.raises(ValueError, match=r"'c'.*many"):
        read_conditions(file, ["c"])


def test_conditions_of_structures():
    with pytest.raises(ValueError, match=r"no SMILES for b: .*--embeddings"):
        compute_conditions({"a": "CC", "b": ""})
    pytest.importorskip("rdkit")
    (name, *counts), _ = compute_conditions({"ethane": "CC", "ethanol": "CCO"})
    assert name == "ethane" and len(counts) == 1024 and sum(map(int, counts)) == 3
    with pytest.raises(ValueError, match="compound 'x'"):
        compute_conditions({"x": "no molecule"})

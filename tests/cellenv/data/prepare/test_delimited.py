import gzip

import pytest

from cellenv.data.prepare.delimited import read_rows

TEXT = 'compound,concentration,moa\n"ICI-182,780",0.3,"Größe µ"\nPP-2,3,Epithelial\n'
ROWS = [
    {"compound": "ICI-182,780", "concentration": "0.3", "moa": "Größe µ"},
    {"compound": "PP-2", "concentration": "3", "moa": "Epithelial"},
]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\n", "\r\n").encode("utf-8-sig"),
        TEXT.encode("cp1252"),
        TEXT.encode("utf-16"),
        f"\n{TEXT},,\n \n".encode(),
        TEXT.replace("\n", " \n").replace("PP-2,3,", " PP-2 , 3,").encode(),
        '"compound";"concentration";"moa"\n"ICI-182,780";0.3;"Größe µ"\nPP-2;3;Epithelial'.encode(),
        "compound\tconcentration\tmoa\nICI-182,780\t0.3\tGröße µ\nPP-2\t3\tEpithelial\n".encode(),
    ],
    ids=["plain", "CR", "Excel", "cp1252", "utf-16", "empty rows", "blanks", "semicolons", "tabs"],
)
def test_a_table_reads_the_same_however_it_was_saved(content, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    assert read_rows(tmp_path / "t.csv") == ROWS
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    assert read_rows(tmp_path / "t.csv.gz") == ROWS


@pytest.mark.parametrize("mark", [b"PK\3\4", b"\xd0\xcf\x11\xe0"], ids=["xlsx", "xls"])
def test_a_workbook_is_to_be_saved_as_csv(mark, tmp_path):
    (tmp_path / "t.xlsx").write_bytes(mark + bytes(100))
    with pytest.raises(ValueError, match=r"t\.xlsx is a workbook: save it as CSV"):
        read_rows(tmp_path / "t.xlsx")


def test_short_rows_are_filled_and_long_ones_refused(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1\n")
    assert read_rows(file) == [{"a": "1", "b": ""}]
    for text, message in (("a,b\n1,2,3\n", "3 values"), ("a,a\n1,2\n", "columns a twice"), ("a,b\n", "at least")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_rows(file)
    with pytest.raises(FileNotFoundError, match="no table"):
        read_rows(tmp_path / "none.csv")


def test_a_column_without_a_name_is_left_out(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(",a,\n0,1,x\n1,2,y\n")  # the first is the index that pandas writes
    assert read_rows(file) == [{"a": "1"}, {"a": "2"}]

import csv
import re

import pytest

from cellenv.csv_io import read_lines, read_rows, spreadsheet_text, write_rows

ROWS = [["key", "name"], ["a", "latrunculin B"], ["b", "mevinolin, lovastatin"], ["µ", ""]]
COLUMNS = {"key": "", "name": ""}


def text(separator, end):
    return end.join(separator.join(f'"{cell}"' if "," in cell else cell for cell in row) for row in ROWS) + end


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("tail", ["", "{end}{end}", "{separator}{end} {separator}{end}"])
def test_the_dress_of_a_table_does_not_matter(tmp_path, separator, end, encoding, tail):
    file = tmp_path / "table.csv"
    file.write_bytes((text(separator, end) + tail.format(separator=separator, end=end)).encode(encoding))
    assert [cells for _, cells in read_lines(file)] == ROWS
    assert list(read_rows(file, COLUMNS))[1] == (f"{file}, line 3", {"key": "b", "name": "mevinolin, lovastatin"})


def test_a_code_page_is_named_by_line(tmp_path):
    file = tmp_path / "table.csv"
    file.write_bytes(text(",", "\n").encode("cp1252"))
    with pytest.raises(ValueError, match=re.escape(f"{file}, line 4: need UTF-8, got the byte 0xb5; save")):
        list(read_lines(file))


def test_a_cell_of_200_kB_is_named_by_line(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("key,name\na," + "x" * 200_000)
    with pytest.raises(ValueError, match=r"table.csv, line 2: field larger"):
        list(read_rows(file, COLUMNS))


@pytest.mark.parametrize("row", ['"a,x', 'a,"x', '"a"b,x', 'a,"x\ny,"z', '"a, "b"'])
def test_a_quote_that_does_not_end_its_cell_swallows_no_rows(tmp_path, row):
    file = tmp_path / "table.csv"
    file.write_text(f'key,name\n"k\nl",n\n{row}\n' + "b,y\n" * 9)
    refuse = pytest.fail  # rows that are left out would be those below, too
    with pytest.raises(ValueError, match=r"table.csv, line 4: .*need a cell that begins with \" to end with it"):
        list(read_rows(file, COLUMNS, refuse))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_in_quotes_may_hold_anything_and_have_blanks_behind_them(tmp_path, separator, end):
    file = tmp_path / "table.csv"
    lines = ["key,name,", '"a" ,"x, ""y"" ,z"  ,5" disc', '"" , "b,"c\n""d"" ,""" ', '"e"']
    file.write_bytes(end.join(lines).replace(",", separator).encode())
    inner = [text.replace(",", separator) for text in ('x, "y" ,z', 'c\n"d" ,"')]
    assert [cells for _, cells in read_lines(file)][1:] == [["a", inner[0], '5" disc'], ["", '"b', inner[1]], ["e"]]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("key", r"lacks the columns \['name'\]; it has \['key'\]; do this$"),
        ("", r"lacks the columns \['key', 'name'\]; it has \['1', '2'\]; do this$"),
        ("key,name,key", "has the column key twice"),
        (",".join(map(str, range(10_000))), "and 9980 more; do this$"),
    ],
)
def test_a_wrong_header_is_named(tmp_path, header, message):
    file = tmp_path / "table.csv"
    file.write_text(f"{header}\n1,2\n")
    with pytest.raises(ValueError, match=message):
        list(read_rows(file, {"key": "", "name": "do this"}))


def test_a_short_row_lacks_columns_and_a_long_one_is_refused(tmp_path):
    file = tmp_path / "table.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([[" key ", "name"], [" a"], ["b", "2", "4-D"], ["c", "d ", " "]])
    errors = []
    rows = [row for _, row in read_rows(file, COLUMNS, errors.append)]
    assert rows == [{"key": "a"}, {"key": "c", "name": "d"}]
    message = f"{file}, line 3: 3 values, 2 columns; quote what holds commas"
    assert [str(error) for error in errors] == [message]
    with pytest.raises(ValueError, match=re.escape(message)):
        list(read_rows(file, COLUMNS))


def test_what_is_written_is_read(tmp_path):
    write_rows(tmp_path / "table.csv", ROWS)
    assert [cells for _, cells in read_lines(tmp_path / "table.csv")] == ROWS
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula(text):
    assert spreadsheet_text(text) == f"'{text}"
    assert spreadsheet_text(f"a{text}") == f"a{text}" and spreadsheet_text("") == ""

import re
from dataclasses import replace

import pytest

from cellenv.data.layouts import BBBC021, RXRX1
from cellenv.data.prepare.output import read_conditions
from cellenv.data.table import RowErrors, check_row, condition_of, find_file, is_held_out, read_embedding, read_table
from tests.cellenv.imaging_toys import EMBEDDING, ROWS, write_csv, write_table


def fails_on(bad):
    def check(item):
        if item in bad:
            raise bad[item]

    return check


def test_the_first_invalid_row_raises():
    with pytest.raises(FileNotFoundError, match="b is missing"):
        RowErrors().filter("abc", fails_on({"b": FileNotFoundError("b is missing"), "c": ValueError("c")}))


def test_skip_drops_invalid_rows_and_lists_their_errors():
    row_errors = RowErrors(skip=True)
    check = fails_on({"b": FileNotFoundError("b is missing"), "d": ValueError("d is bad")})
    assert row_errors.filter("abcde", check) == ["a", "c", "e"]
    assert row_errors.filter("bx", check) == ["x"]
    assert row_errors.found == ["b is missing", "d is bad", "b is missing"]


def test_other_errors_are_not_skipped():
    with pytest.raises(TypeError):
        RowErrors(skip=True).filter("a", fails_on({"a": TypeError()}))


def test_a_file_lies_in_the_folder_or_in_metadata(tmp_path):
    (tmp_path / "metadata").mkdir()
    for place in (tmp_path, tmp_path / "metadata"):
        (place / "a_df.csv").touch()
        assert find_file(tmp_path, "*_df.csv") == place / "a_df.csv"
        (place / "a_df.csv").unlink()


def test_an_absolute_path_is_a_file_or_named(tmp_path):
    file = tmp_path / "other" / "df.csv"
    with pytest.raises(FileNotFoundError, match=re.escape(f"no file {file}; choose one with --index FILE")):
        find_file(tmp_path, str(file), "--index")
    file.parent.mkdir()
    file.touch()
    assert find_file(tmp_path, str(file)) == file


def test_none_or_two_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"exactly one \*_df.csv.*found none; `cellfluxrl prepare` makes"):
        find_file(tmp_path, "*_df.csv")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        find_file(tmp_path / "nowhere", "*_df.csv")
    for name in ("a_df.csv", "b_df.csv"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"found a_df\.csv, b_df\.csv; choose one with --index FILE"):
        find_file(tmp_path, "*_df.csv", "--index")


@pytest.fixture
def table(tmp_path):
    """rows -> a file of the image table that holds them."""

    def write(rows):
        write_table(tmp_path, rows)
        return tmp_path / "toy_df_all.csv"

    return write


BAD_ROWS = [
    (("W1_10", "taxol", "Stab", "1", "train"), "line 2.*WEEK_PLATE_NAME; got 'W1_10'"),
    (("W1_10_../x", "taxol", "Stab", "1", "train"), "line 2.*WEEK_PLATE_NAME, .*without slashes"),
    (("W1_.._z", "taxol", "Stab", "1", "train"), "line 2.*the name of a file"),
    (("W1_10_\0", "taxol", "Stab", "1", "train"), "line 2.*the name of a file"),
    (("W1_10_z", "taxol", "Stab", "2", "train"), "line 2.*W1_10_z.*STATE as one of 1, trt, 0, control; got '2'"),
    (("W1_10_z", "taxol", "", "1", "train"), "line 2.*W1_10_z.*mechanism of action in ANNOT"),
    (("W1_10_z", "taxol", "Stab", "1"), "line 2.*shorter"),
    (("W1_10_z", "2", "4-D", "Stab", "1", "train"), "line 2: 9 values, 8 columns; quote what holds commas"),
    (ROWS[1], "line 4.*W1_11_b_1.0 appears twice"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_invalid_rows_are_named_or_skipped(table, row, message):
    file = table([row, *ROWS])
    with pytest.raises(ValueError, match=message):
        read_table(file)
    row_errors = RowErrors(skip=True)
    assert sorted(row["SAMPLE_KEY"] for row in read_table(file, row_errors=row_errors)) == sorted(r[0] for r in ROWS)
    assert len(row_errors.found) == 1 and re.search(message, row_errors.found[0])


def test_blanks_around_values_do_not_matter(table, tmp_path):
    sound = read_table(table(ROWS))
    assert read_table(table([tuple(f" {value} " for value in row) for row in ROWS])) == sound
    write_csv(tmp_path / "emb_fp.csv", [[f"{name} ", *values] for name, *values in EMBEDDING])
    assert "taxol" in read_embedding(tmp_path / "emb_fp.csv")


def test_a_control_needs_no_mechanism():
    row = {"SAMPLE_KEY": "W1_10_a", "SPLIT": "train", "CPD_NAME": "DMSO", "BATCH": "W1", "STATE": "0", "ANNOT": ""}
    check_row(row, "here", BBBC021, {})
    with pytest.raises(ValueError, match="mechanism of action"):
        check_row(row | {"STATE": "1"}, "here", BBBC021, {})
    check_row(row | {"STATE": "1"}, "here", replace(BBBC021, label=None), {})


@pytest.mark.parametrize("column", ["ANNOT", "SPLIT", "CPD_NAME", "BATCH"])
def test_missing_columns_are_named(table, column):
    file = table(ROWS)
    file.write_text(file.read_text().replace(column, "OTHER", 1))
    with pytest.raises(ValueError, match=rf"lacks the columns \['{column}'\].*OTHER"):
        read_table(file)


def test_an_image_needs_the_name_of_its_plate():
    row = {"SAMPLE_KEY": "W1_10_a", "SPLIT": "train", "CPD_NAME": "taxol", "BATCH": "", "STATE": "1", "ANNOT": "Stab"}
    for state in ("1", "0"):
        with pytest.raises(ValueError, match=r"here \(W1_10_a\): need BATCH, .* it is empty \(--pairing\)"):
            check_row(row | {"STATE": state}, "here", BBBC021, {})
    check_row(row | {"STATE": "spare"}, "here", replace(BBBC021, states={"spare": None}), {})


@pytest.mark.parametrize("compound", ["taxol", "docetaxel"])
def test_a_column_says_what_is_held_out(compound):
    row = {"SAMPLE_KEY": "W1_10_a", "SPLIT": "train", "CPD_NAME": compound, "BATCH": "W1", "STATE": "1", "ANNOT": "a"}
    by_layout = compound in BBBC021.unseen
    assert is_held_out(row, BBBC021) == is_held_out(row | {"UNSEEN": ""}, BBBC021) == by_layout
    for value, held_out in (("1", True), ("0", False)):
        check_row(row | {"UNSEEN": value}, "here", BBBC021, {})
        assert is_held_out(row | {"UNSEEN": value}, BBBC021) == held_out
    for value in ("1.0", "True"):
        with pytest.raises(ValueError, match=rf"W1_10_a.*UNSEEN as 1 \(held out\), 0 or empty; got '{value}'"):
            check_row(row | {"UNSEEN": value}, "here", BBBC021, {})


def test_rows_that_are_neither_treated_nor_control_are_dropped(tmp_path):
    header = ["SAMPLE_KEY", "BATCH", "CPD_NAME", "ANNOT", "SPLIT"]
    states = ["treated", "positive_control", "negative_control"]
    rows = [(f"U2OS-01_2_B03_1_{i}", "01", "gene", state, "train") for i, state in enumerate(states)]
    write_csv(tmp_path / "rxrx1_df.csv", [header, *rows])
    assert [row["ANNOT"] for row in read_table(tmp_path / "rxrx1_df.csv", RXRX1)] == [states[0], states[2]]


def test_two_keys_of_one_file_are_named_or_skipped(tmp_path):
    header = ["SAMPLE_KEY", "BATCH", "CPD_NAME", "ANNOT", "SPLIT"]
    keys = ["U2OS-01_2_B03_1_7", "HEPG2-01_2_B03_1_7", "U2OS-01_2_B04_1_7"]
    write_csv(tmp_path / "rxrx1_df.csv", [header, *((key, "01", "gene", "treated", "train") for key in keys)])
    message = f"line 3: .*SAMPLE_KEY {keys[0]} and {keys[1]} are both 01_2/B03/1_7.npy"
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "rxrx1_df.csv", RXRX1)
    errors = RowErrors(skip=True)
    assert [row["SAMPLE_KEY"] for row in read_table(tmp_path / "rxrx1_df.csv", RXRX1, errors)] == keys[::2]
    assert len(errors.found) == 1 and re.search(message, errors.found[0])


def test_conditions_are_read_by_compound(tmp_path):
    write_csv(tmp_path / "emb_fp.csv", EMBEDDING)
    found = read_embedding(tmp_path / "emb_fp.csv")
    assert {name: values.tolist() for name, values in found.items()} == {row[0]: row[1:] for row in EMBEDDING[1:]}
    row = {"SAMPLE_KEY": "W1_10_a", "CPD_NAME": "mevinolin/lovastatin"}
    assert condition_of(row, BBBC021, found).tolist() == [5, 6]
    with pytest.raises(ValueError, match=r"image W1_10_a.*no row for 'nova'"):
        condition_of(row | {"CPD_NAME": "nova"}, BBBC021, found)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["taxol", "nan", 2]], "holds nan"),
        ([["taxol", "one", 2]], "needs numbers"),
        ([["taxol", 1]], "has 1 numbers; the first row names 2"),
        ([["taxol", 1, 2], ["taxol", 1, 2]], "two rows for 'taxol'"),
    ],
)
def test_an_invalid_condition_fails_only_where_it_is_used(tmp_path, rows, message):
    write_csv(tmp_path / "emb_fp.csv", [*EMBEDDING[:2], *rows, *EMBEDDING[3:]])
    found = read_embedding(tmp_path / "emb_fp.csv")
    assert found["docetaxel"].tolist() == [3, 4]
    with pytest.raises(ValueError, match=f"image W1_10_a: .*{message}"):
        condition_of({"SAMPLE_KEY": "W1_10_a", "CPD_NAME": "taxol"}, BBBC021, found)


def test_files_that_others_hide_beside_a_table_are_not_meant(tmp_path):
    for name in ("a_df.csv", "._a_df.csv", "~$a_df.csv"):
        (tmp_path / name).touch()
    assert find_file(tmp_path, "*_df.csv") == tmp_path / "a_df.csv"


@pytest.mark.parametrize("header", [["", "0", "1"], ["name", "latent_1", "latent_2"], ["", 7, 7], ["x", 1, 2], None])
def test_an_embedding_without_a_header_keeps_its_first_compound(tmp_path, header):
    rows = [["taxol", 1, 3], ["docetaxel", 3, 4]]
    write_csv(tmp_path / "emb.csv", rows if header is None else [header, *rows])
    assert list(read_embedding(tmp_path / "emb.csv")) == ["taxol", "docetaxel"]


@pytest.mark.parametrize("numbers", [["0", "1"], ["1", "2"]])
def test_the_row_of_a_compound_is_no_header_though_it_counts(tmp_path, numbers):
    write_csv(tmp_path / "emb.csv", [["taxol", *numbers], ["docetaxel", 3, 4]])
    assert list(read_embedding(tmp_path / "emb.csv", {"Taxol"})) == ["taxol", "docetaxel"]
    assert list(read_embedding(tmp_path / "emb.csv", {"docetaxel"})) == ["docetaxel"]
    assert read_conditions(tmp_path / "emb.csv", ["Taxol"]) == [["Taxol", *numbers]]


@pytest.mark.parametrize("gap", ["", "n/a"])
def test_the_row_of_a_compound_is_no_header_though_it_has_a_gap(tmp_path, gap):
    write_csv(tmp_path / "emb.csv", [["taxol", 1, gap], ["docetaxel", 3, 4]])
    found = read_embedding(tmp_path / "emb.csv", {"taxol"})
    assert list(found) == ["taxol", "docetaxel"]
    assert "the row 'taxol' of" in found["taxol"] and repr(gap) in found["taxol"]
    write_csv(tmp_path / "emb.csv", [["", "a", "b"], ["taxol", 3, 4]])
    assert list(read_embedding(tmp_path / "emb.csv", {"taxol", ""})) == ["taxol"]


@pytest.mark.parametrize("text", ["", ",,\n\n", "taxol\ndocetaxel\n"])
def test_an_embedding_without_numbers_is_named(tmp_path, text):
    (tmp_path / "emb.csv").write_text(text)
    with pytest.raises(ValueError, match=r"emb\.csv has no columns"):
        read_embedding(tmp_path / "emb.csv")


def test_a_byte_order_mark_is_read_over(tmp_path):
    index, embedding = tmp_path / "toy_df_all.csv", tmp_path / "emb_fp.csv"
    write_csv(index, [[*BBBC021.columns], ["W1_10_a_0.0", "train", "taxol", "W1", "1", "Stab"]])
    write_csv(embedding, [["name", "0"], ["taxol", 1]])
    rows, conditions = read_table(index), read_embedding(embedding)
    for file in (index, embedding):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_table(index) == rows and rows[0]["SAMPLE_KEY"] == "W1_10_a_0.0"
    assert read_embedding(embedding).keys() == conditions.keys() == {"taxol"}

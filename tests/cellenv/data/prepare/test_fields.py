from dataclasses import replace

import pytest

from cellenv.data.prepare.delimited import read_rows
from cellenv.data.prepare.fields import (
    Columns,
    Plane,
    fields_of_pattern,
    fields_of_table,
    key_part,
    name_fields,
    parse_dose,
    parse_sources,
    split_plate,
)

BBBC021 = Columns(
    file="Image_FileName_{stain}",
    folder="Image_PathName_{stain}",
    batch="",
    plate="Image_Metadata_Plate_DAPI",
    well="Image_Metadata_Well_DAPI",
    site="",
    compound="Image_Metadata_Compound",
    dose="Image_Metadata_Concentration",
    moa="",
    smiles="",
)
STAINS = parse_sources(("actin=Actin", "DNA=DAPI"))
TABLE = """TableNumber,Image_FileName_DAPI,Image_PathName_DAPI,Image_FileName_Actin,Image_PathName_Actin,\
Image_Metadata_Plate_DAPI,Image_Metadata_Well_DAPI,Image_Metadata_Compound,Image_Metadata_Concentration
4,d1.tif,Week4/Week4_27481,a1.tif,Week4/Week4_27481,Week4_27481,G10,5-fluorouracil,3e-4
4,d2.tif,Week4/Week4_27481,a2.tif,Week4/Week4_27481,Week4_27481,G10,5-fluorouracil,3e-4
4,d3.tif,Week4/Week4_27481,a3.tif,Week4/Week4_27481,Week4_27481,G11,DMSO,0
"""


def listed(tmp_path, table=TABLE, columns=BBBC021, stains=STAINS):
    (tmp_path / "t.csv").write_text(table)
    return fields_of_table(read_rows(tmp_path / "t.csv"), tmp_path / "images", columns, stains)


def test_the_published_table(tmp_path):
    first, second, control = listed(tmp_path)
    assert (first.batch, first.plate, first.well, first.compound, first.dose) == (
        *("Week4", "27481", "G10", "5-fluorouracil"),
        3e-4,
    )
    assert (first.name, second.name, control.name) == (
        "Week4_27481_G10_s1",
        "Week4_27481_G10_s2",
        "Week4_27481_G11_s1",
    )
    folder = tmp_path / "images" / "Week4" / "Week4_27481"
    assert second.planes == (Plane(folder / "a2.tif", None), Plane(folder / "d2.tif", None))


def test_an_index_column_is_none_of_the_values(tmp_path):
    header, *rows = TABLE.splitlines()
    table = "\n".join([f",{header}", *(f"{7 + i},{row}" for i, row in enumerate(rows))])
    columns = Columns(**{**vars(BBBC021), "dose": ""})
    assert listed(tmp_path, table, columns) == listed(tmp_path, columns=columns)
    assert [field.moa for field in listed(tmp_path, table, columns)] == [""] * 3


def test_folders_of_another_machine_are_left_out(tmp_path):
    (tmp_path / "images" / "Week4_27481").mkdir(parents=True)
    (tmp_path / "images" / "Week4_27481" / "a2.tif").touch()
    table = TABLE.replace("Week4/Week4_27481", "C:\\data\\Week4_27481")
    assert listed(tmp_path, table)[2].planes[1].file == tmp_path / "images" / "Week4_27481" / "d3.tif"


def test_no_file_outside_the_folder_is_named(tmp_path):
    file = listed(tmp_path, TABLE.replace("d1.tif", "../../../d1.tif"))[0].planes[1].file
    assert file == tmp_path / "images" / "Week4" / "Week4_27481" / "d1.tif"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Image_FileName_DAPI", "File"), "lacks Image_FileName_DAPI"),
        (("a2.tif", ""), "row 2 .* Image_FileName_Actin is empty"),
        ((",3e-4", ",much"), "row 1 .*concentration, got 'much'"),
    ],
)
def test_a_wrong_table_is_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, TABLE.replace(*change))


def test_planes_of_one_file(tmp_path):
    columns = Columns(**{**vars(BBBC021), "file": "Image_FileName_DAPI", "folder": ""})
    field = listed(tmp_path, columns=columns, stains={"actin": "2", "DNA": "0"})[0]
    assert field.planes == (Plane(tmp_path / "images" / "d1.tif", 2), Plane(tmp_path / "images" / "d1.tif", 0))
    with pytest.raises(ValueError, match=r"their planes.*'DAPI'"):
        listed(tmp_path, columns=columns, stains={"DNA": "DAPI"})


def test_fields_by_pattern(tmp_path):
    for name in ("A01_s1_w1x.tif", "A01_s1_w2y.tif", "A01_s2_w1z.tif", "A01_s2_w2z.tif", "thumb.tif", "notes.txt"):
        (tmp_path / "P-1").mkdir(exist_ok=True)
        (tmp_path / "P-1" / name).touch()
    fields = fields_of_pattern(tmp_path, "{plate}/{well}_s{site}_w{channel}*.tif", {"DNA": "2", "actin": "1"})
    assert [field.name for field in fields] == ["batch_P-1_A01_s1", "batch_P-1_A01_s2"]
    assert [plane.file.name for plane in fields[0].planes] == ["A01_s1_w2y.tif", "A01_s1_w1x.tif"]
    with pytest.raises(ValueError, match=r"shows channel 3; they show 1, 2: .*--stains"):
        fields_of_pattern(tmp_path, "{plate}/{well}_s{site}_w{channel}*.tif", {"DNA": "3"})
    with pytest.raises(ValueError, match=r"no file .* matches"):
        fields_of_pattern(tmp_path, "{well}_{channel}.tif", {"DNA": "1"})


def test_a_file_that_a_field_lacks_is_named_as_the_pattern_would_have_it(tmp_path):
    for name in ("A01_s1_w1x.tif", "A01_s1_w2y.tif", "A02_s1_w1z.tif"):
        (tmp_path / name).touch()
    whole, part = fields_of_pattern(tmp_path, "{well}_s{site}_w{channel}*.tif", {"DNA": "1", "actin": "2"})
    assert all(plane.file.is_file() for plane in whole.planes)
    assert [plane.file.name for plane in part.planes] == ["A02_s1_w1z.tif", "A02_s1_w2*.tif"]


def test_two_files_of_one_stain_are_refused(tmp_path):
    for name in ("A01_s1_w1A4.tif", "A01_s1_w1_thumbA4.tif"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"two files of one stain, .*A01_s1_w1A4\.tif and A01_s1_w1_thumbA4\.tif"):
        fields_of_pattern(tmp_path, "{well}_s{site}_w{channel}*.tif", {"DNA": "1"})


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "A01_1.jpg").touch()
    with pytest.raises(ValueError, match=r"no image in .*: need \.tif, \.tiff, \.png"):
        fields_of_pattern(tmp_path, "{well}_{channel}.jpg", {"DNA": "1"})


def test_two_files_of_one_field_are_refused(tmp_path):
    columns = Columns(**{**vars(BBBC021), "site": "TableNumber"})
    with pytest.raises(ValueError, match="1 fields are listed twice, the first is Week4_27481_G10_s4"):
        listed(tmp_path, columns=columns)


def test_plates_become_parts_of_keys():
    assert split_plate("", "Week4_27481") == ("Week4", "27481")
    assert split_plate("", "my plate (2)") == ("batch", "my plate (2)")
    assert split_plate("run_1", "p_2_b") == ("run_1", "p_2_b")
    assert key_part("my plate (2)") == "my-plate-2" and key_part("p_2_b") == "p-2-b"
    with pytest.raises(ValueError, match="names of plates"):
        key_part("__")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Week4_27481,G11", "Week4_27481+,G11"), "'Week4_27481' and 'Week4_27481\\+' are both 'Week4_27481'.*rename"),
        (("Week4_27481,G11", "Week4_27481,G10+"), "'G10' and 'G10\\+' are both 'G10'.*rename"),
    ],
)
def test_two_plates_or_wells_whose_names_differ_in_signs_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, TABLE.replace(*change))


def test_two_folders_of_plates_that_differ_in_signs_are_refused(tmp_path):
    for plate in ("siRNA+", "siRNA-"):
        (tmp_path / plate).mkdir()
        (tmp_path / plate / "A01_1.tif").touch()
    with pytest.raises(ValueError, match=r"'batch_siRNA\+' and 'batch_siRNA-' are both 'batch_siRNA'"):
        fields_of_pattern(tmp_path, "{plate}/{well}_{channel}.tif", {"DNA": "1"})


@pytest.mark.parametrize(("text", "dose"), [("", 0), ("0,125", 0.125), ("2,5", 2.5), ("1000", 1000), ("3e-4", 3e-4)])
def test_doses_with_a_point_or_a_decimal_comma(text, dose):
    assert parse_dose(text, "here") == dose


@pytest.mark.parametrize("text", ["1.000,5", "nan", "inf", "much"])
def test_what_is_no_dose_is_refused(text):
    with pytest.raises(ValueError, match=f"here: need a number as concentration, got '{text}'"):
        parse_dose(text, "here")


@pytest.mark.parametrize(
    ("text", "two"), [("1,000", "1.000 or 1000"), ("3,125", "3.125 or 3125"), ("-20,500", "-20.500 or -20500")]
)
def test_what_could_be_two_doses_is_refused(text, two):
    with pytest.raises(ValueError, match=f"here: the concentration '{text}' can be {two}: write it without the comma"):
        parse_dose(text, "here")


def test_a_batch_may_be_written_in_the_name_of_its_plate(tmp_path):
    field = listed(tmp_path)[0]
    alone, apart = replace(field, batch="", plate="Week1_P1"), replace(field, batch="Week1", plate="P1")
    assert [(x.batch, x.plate) for x in name_fields([alone, apart])] == [("Week1", "P1")] * 2


def test_channels_come_in_the_order_in_which_they_are_read():
    assert list(parse_sources(("DNA=0", "tubulin=1", "actin=2")).items()) == [
        ("actin", "2"),
        ("tubulin", "1"),
        ("DNA", "0"),
    ]
    assert list(parse_sources(("DNA=0", "ER=1"))) == ["DNA", "ER"]


@pytest.mark.parametrize("stains", [("DNA",), ("DNA=1", "DNA=2"), (), ("=DAPI",)])
def test_wrong_stains_are_refused(stains):
    with pytest.raises(ValueError, match="CHANNEL=NAME"):
        parse_sources(stains)

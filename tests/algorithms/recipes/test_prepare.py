import sys
from dataclasses import replace
from pathlib import Path

import pytest

from algorithms.cli import run
from algorithms.command_line import parse
from algorithms.recipes.prepare import PRESETS, CropConfig, FieldsConfig, PrepareConfig, ScaleConfig, SplitConfig
from algorithms.recipes.preparing import read_plan
from cellenv.data.fingerprints import morgan_counts


def test_flags_are_short():
    words = "fields --out cells --stains DNA=0 actin=1 --wells w.csv --crop 64 --split-by plate --segmenter classical"
    config = parse(PRESETS, None, [*words.split(), "--skip-bad", "--no-illumination", "--plate-column", "P"]).config
    assert (config.folder, config.out) == (Path("fields"), Path("cells"))
    assert config.fields == FieldsConfig(stains=("DNA=0", "actin=1"), skip_bad=True, plate_column="P")
    assert config.treatments.wells == Path("w.csv") and config.segmenter.segmenter == "classical"
    assert config.crops.crop == 64 and config.split.split_by == "plate" and not config.scale.illumination


@pytest.mark.parametrize(
    ("group", "wrong", "message"),
    [
        ("fields", FieldsConfig(pattern="{well}.tif"), "and not both"),
        ("fields", FieldsConfig(images=None), "and not both"),
        ("fields", FieldsConfig(nucleus="Hoechst"), "--nucleus Hoechst is none of"),
        ("scale", ScaleConfig(low=50, high=50), "low < high"),
        ("scale", ScaleConfig(smoothing=0), "smoothing > 0"),
        ("crops", CropConfig(resolution=2.0), "go together"),
        ("crops", CropConfig(resolution=2.0, pixel_size=0.5, nucleus_diameter=30), "give one"),
        ("crops", CropConfig(nucleus_diameter=-1), "lengths"),
        ("crops", CropConfig(crop=8), "at least 16 px"),
        ("split", SplitConfig(test=1.0), r"in \(0, 1\)"),
        ("workers", 0, "workers above 0"),
    ],
)
def test_what_cannot_work_is_refused(group, wrong, message):
    with pytest.raises(ValueError, match=message):
        PrepareConfig(**{group: wrong})


@pytest.fixture
def folder(tmp_path):
    """Files of three wells by pattern, and tables of what they are."""
    for well in ("A01", "A02", "A03"):
        for channel in "123":
            (tmp_path / "P1").mkdir(exist_ok=True)
            (tmp_path / "P1" / f"{well}_s1_w{channel}.tif").touch()
    (tmp_path / "wells.csv").write_text("well,compound,smiles\nA01,DMSO,\nA02,aspirin,CC\nA03,ibuprofen,CCC\n")
    (tmp_path / "moa.csv").write_text("compound,moa\naspirin,COX\n")
    (tmp_path / "emb.csv").write_text("name,0\naspirin,1\nibuprofen,2\n")
    return tmp_path


def plan(folder, **changes):
    config = replace(PRESETS["pattern"], folder=folder)
    groups = {"treatments": {"wells": Path("wells.csv"), "moa": Path("moa.csv"), "embeddings": Path("emb.csv")}}
    for name in ("treatments", "fields", "split"):
        values = groups.get(name, {}) | changes.get(name, {})
        config = replace(config, **{name: replace(getattr(config, name), **values)})
    return read_plan(config)


def test_tables_and_names_make_a_plan(folder):
    found = plan(folder)
    assert [(f.name, f.compound, f.moa) for f in found.fields] == [
        *(("batch_P1_A01_s1", "DMSO", "DMSO"), ("batch_P1_A02_s1", "aspirin", "COX")),
    ]
    assert found.left_out == {"no mechanism of action": ["batch_P1_A03_s1"]} and found.conditions == [["aspirin", "1"]]
    assert len(plan(folder, treatments={"unlabelled": "compound"}).conditions) == 2


def test_compounds_are_held_out_whatever_their_case(folder):
    assert plan(folder, split={"unseen": ("ASPIRIN",)}).unseen == ["aspirin"]
    assert plan(folder).unseen == []
    for file in ("wells.csv", "moa.csv", "emb.csv"):
        (folder / file).write_text((folder / file).read_text().replace("aspirin", "Docetaxel"))
    assert plan(folder).unseen == ["Docetaxel"] and plan(folder, split={"unseen": ()}).unseen == []


def test_a_structure_that_a_later_well_lacks_stays(folder):
    pytest.importorskip("rdkit")
    (folder / "wells.csv").write_text("well,compound,smiles\nA01,DMSO,\nA02,aspirin,CC\nA03,aspirin,\n")
    assert plan(folder, treatments={"embeddings": None}).conditions[0][1:] == [f"{n:g}" for n in morgan_counts("CC")]
    (folder / "wells.csv").write_text("well,compound,smiles\nA01,DMSO,\nA02,aspirin,CC\nA03,aspirin,C\n")
    with pytest.raises(ValueError, match="'aspirin' has two structures: 'CC' and 'C'"):
        plan(folder, treatments={"embeddings": None})


def test_structures_become_conditions(folder):
    pytest.importorskip("rdkit")
    (folder / "smiles.csv").write_text("compound,smiles\nibuprofen,CCO\n")
    treatments = {"embeddings": None, "unlabelled": "compound", "compounds": Path("smiles.csv")}
    conditions = plan(folder, treatments=treatments).conditions
    expected = [
        [name, *(f"{n:g}" for n in morgan_counts(smiles))] for name, smiles in (("aspirin", "CC"), ("ibuprofen", "CCO"))
    ]
    assert conditions == expected and conditions[0][1:] != conditions[1][1:]


def test_without_rdkit_there_are_two_ways_on(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"cellfluxrl\[chem\].*--embeddings"):
        plan(folder, treatments={"embeddings": None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {"plates": ("P2",)}}, "no field of plates P2; there are batch_P1"),
        ({"split": {"unseen": ("taxol",)}}, "--unseen taxol: there are aspirin"),
        ({"treatments": {"control": ("water",)}}, "no well holds the control water"),
        ({"treatments": {"embeddings": Path("wells.csv")}}, "no row for aspirin"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_any_pixel_is_read(changes, message, folder):
    with pytest.raises(ValueError, match=message):
        plan(folder, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {"images": Path("no.csv"), "pattern": None}}, "no table no.csv, .*: --images .*--preset pattern"),
        ({"treatments": {"wells": Path("no.csv")}}, "--wells names it"),
        ({"treatments": {"embeddings": Path("no.csv")}}, "--embeddings names it"),
    ],
)
def test_a_table_that_is_not_there_is_named_with_its_flag(changes, message, folder):
    with pytest.raises(FileNotFoundError, match=message):
        plan(folder, **changes)


CELLPROFILER = """Image_FileName_Actin,Image_PathName_Actin,Image_FileName_Tubulin,Image_PathName_Tubulin,\
Image_FileName_DNA,Image_PathName_DNA,Metadata_Plate,Metadata_Well,Metadata_Site
"A01_s1_w3.tif","2009-07-08","A01_s1_w2.tif","2009-07-08","A01_s1_w1.tif","2009-07-08","P-12345","A01",1
"B02_s1_w3.tif","2009-07-08","B02_s1_w2.tif","2009-07-08","B02_s1_w1.tif","2009-07-08","P-12345","B02",1
"B02_s2_w3.tif","2009-07-08","B02_s2_w2.tif","2009-07-08","B02_s2_w1.tif","2009-07-08","P-12345","B02",2
"""
WELLS = "Plate,Well,Compound,MoA\nP-12345,A01,dmso,\nP-12345,B02,taxol,microtubule stabilizer\n"
JUMP_FOLDER = "2021_04_26_Batch1/images/BR00117035__2021-05-02T16_02_51-Measurement1/Images/"
JUMP_PLACE = f"s3://cellpainting-gallery/cpg0016-jump/source_4/images/{JUMP_FOLDER}"
JUMP = "FileName_OrigAGP,FileName_OrigDNA,FileName_OrigER,FileName_OrigMito,FileName_OrigRNA," + (
    "Metadata_Batch,Metadata_Plate,Metadata_Site,Metadata_Well,"
    "PathName_OrigAGP,PathName_OrigDNA,PathName_OrigER,PathName_OrigMito,PathName_OrigRNA\n"
)
JUMP_WELLS = (
    "Metadata_Source,Metadata_Plate,Metadata_Well,Metadata_JCP2022\n"
    "source_4,BR00117035,A01,JCP2022_033924\nsource_4,BR00117035,A02,JCP2022_085227\n"
    "source_4,BR00117036,A01,JCP2022_085227\n"
)
JUMP_COMPOUNDS = (
    "Metadata_JCP2022,Metadata_InChIKey,Metadata_InChI,Metadata_SMILES\n"
    'JCP2022_085227,SRVFFFJZQVENJC-UHFFFAOYSA-N,"InChI=1S/C17H30N2O5/c1-6","CCC"\n'
)


def test_a_table_of_cellprofiler_is_read_by_its_preset(tmp_path):
    (tmp_path / "load_data.csv").write_text(CELLPROFILER)
    (tmp_path / "wells.csv").write_text(WELLS)
    (tmp_path / "emb.csv").write_text("name,0\ntaxol,1\n")
    (tmp_path / "2009-07-08").mkdir()
    for place in ("A01_s1", "B02_s1", "B02_s2"):
        for channel in "123":
            (tmp_path / "2009-07-08" / f"{place}_w{channel}.tif").touch()
    treatments = replace(PRESETS["cellprofiler"].treatments, wells=Path("wells.csv"), embeddings=Path("emb.csv"))
    found = read_plan(replace(PRESETS["cellprofiler"], folder=tmp_path, treatments=treatments)).fields
    assert [(f.name, f.compound, f.moa, f.is_control) for f in found] == [
        ("batch_P-12345_A01_s1", "DMSO", "DMSO", True),
        ("batch_P-12345_B02_s1", "taxol", "microtubule stabilizer", False),
        ("batch_P-12345_B02_s2", "taxol", "microtubule stabilizer", False),
    ]
    assert [plane.file.name for plane in found[2].planes] == [f"B02_s2_w{channel}.tif" for channel in "321"]


def test_a_table_of_jump_is_read_by_its_preset(tmp_path):
    """The paths are those of its bucket, the wells and compounds those of all its plates."""
    stains, rows = ("AGP", "DNA", "ER", "Mito", "RNA"), []
    (tmp_path / JUMP_FOLDER).mkdir(parents=True)
    for k, well in enumerate(("A01", "A02"), 1):
        files = [f"r01c{k:02}f01p01-ch{channel}sk1fk1fl1.tiff" for channel in (2, 5, 4, 1, 3)]
        for file in files:
            (tmp_path / JUMP_FOLDER / file).touch()
        rows.append(",".join([*files, "2021_04_26_Batch1", "BR00117035", "1", well, *[JUMP_PLACE] * len(stains)]))
    (tmp_path / "load_data.csv").write_text(JUMP + "\n".join(rows))
    (tmp_path / "well.csv").write_text(JUMP_WELLS)
    (tmp_path / "compound.csv").write_text(JUMP_COMPOUNDS)
    (tmp_path / "emb.csv").write_text("name,0\nJCP2022_085227,1\n")
    treatments = replace(
        PRESETS["jump-loaddata"].treatments,
        wells=Path("well.csv"),
        compounds=Path("compound.csv"),
        embeddings=Path("emb.csv"),
    )
    control, treated = read_plan(replace(PRESETS["jump-loaddata"], folder=tmp_path, treatments=treatments)).fields
    assert (control.name, control.is_control) == ("batch_BR00117035_A01_s1", True)
    assert (treated.compound, treated.moa, treated.smiles) == ("JCP2022_085227", "JCP2022_085227", "CCC")
    channels = [plane.file.name.split("-")[1][:3] for plane in treated.planes]
    assert channels == ["ch2", "ch4", "ch5"] and all(plane.file.is_file() for plane in treated.planes)


def test_missing_files_are_an_error_or_left_out(folder):
    (folder / "P1" / "A02_s1_w2.tif").unlink()
    images = folder / "images.csv"
    rows = [f"P1,A0{k},{'DMSO' if k == 1 else 'aspirin'},A0{k}_s1_w2.tif" for k in (1, 2, 3)]
    images.write_text("\n".join(["plate,well,compound,file", *rows]))
    fields = {
        "images": Path("images.csv"),
        "pattern": None,
        "stains": ("DNA=0",),
        "file_column": "file",
        "folder_column": "",
        "plate_column": "plate",
        "well_column": "well",
        "site_column": "",
    }
    treatments = {"wells": None, "compound_column": "compound"}
    for row in images.read_text().splitlines()[1:]:
        assert row
    changes = {"fields": fields, "treatments": treatments}
    with pytest.raises(FileNotFoundError, match=r"3 of 3 fields lack a file, the first is .*A01_s1_w2\.tif"):
        plan(folder, **changes)
    for k in (1, 3):
        (folder / f"A0{k}_s1_w2.tif").touch()
    with pytest.raises(FileNotFoundError, match="1 of 3 fields"):
        plan(folder, **changes)
    found = plan(folder, fields={**fields, "skip_bad": True}, treatments=treatments)
    assert [f.well for f in found.fields] == ["A01", "A03"] and found.missing == {
        "batch_P1_A02_s1": f"{folder / 'A02_s1_w2.tif'} is missing"
    }


def test_a_stain_that_one_field_lacks_is_an_error_or_left_out(folder):
    (folder / "P1" / "A03_s1_w2.tif").unlink()
    treatments = {"unlabelled": "compound"}
    with pytest.raises(
        FileNotFoundError, match=r"1 of 3 fields lack a file, the first is .*A03_s1_w2\*\.tif: --skip-bad"
    ):
        plan(folder, treatments=treatments)
    found = plan(folder, treatments=treatments, fields={"skip_bad": True})
    assert [f.well for f in found.fields] == ["A01", "A02"] and list(found.missing) == ["batch_P1_A03_s1"]


def test_an_out_that_cannot_be_a_folder_is_refused_first(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("prepare", args=[str(folder), "--preset", "pattern", "--out", str(folder / "wells.csv")])
    assert "wells.csv is a file; give another folder" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_plan(replace(PRESETS["pattern"], folder=tmp_path / "none"))

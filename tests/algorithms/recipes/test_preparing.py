"""Plates with known cells, prepared with the embedded segmenter: what is true is found."""

import csv
import json
import os
from collections import Counter

import numpy as np
import pytest

from algorithms.cli import run
from cellenv.data.imaging import ImagingCells
from cellenv.data.synthetic import SyntheticCells
from cellenv.data.synthetic_plates import draw_camera, write_plates

SHAPE, EDGE = (384, 512), 48  # px; half a crop
FLAGS = "--embeddings emb_synthetic.csv --workers 1 --nucleus-diameter 36"


def read(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    write_plates(folder, compounds=("PP-2", "etoposide"), plates=2, controls=2, replicates=2, sites=1, shape=SHAPE)
    return folder


@pytest.fixture(scope="module")
def cells(fields):
    out = fields.parent / "cells"
    run("prepare", args=[str(fields), "--out", str(out), *FLAGS.split()])
    return out


@pytest.fixture(scope="module")
def nuclei(fields):
    """True nuclei that lie a crop's half inside their field, by field: rows of y, x, area."""
    found = {}
    for row in read(fields / "truth.csv"):
        y, x, area = float(row["y"]), float(row["x"]), int(row["area"])
        if EDGE <= y <= SHAPE[0] - EDGE and EDGE <= x <= SHAPE[1] - EDGE:
            key = f"{row['plate']}_{row['well']}_s{row['site']}"
            found.setdefault(key, []).append((y, x, area))
    return {key: np.array(rows) for key, rows in found.items()}


@pytest.fixture(scope="module")
def crops(cells):
    """Centres of the cells, by field."""
    found = {}
    for row in read(cells / "cells_df_all.csv"):
        key = row["SAMPLE_KEY"].rpartition("_")[0]
        found.setdefault(key, []).append((float(row["Y"]), float(row["X"])))
    return {key: np.array(rows) for key, rows in found.items()}


def test_the_number_of_cells_is_true_within_5_percent(nuclei, crops):
    true = sum((rows[:, 2] >= 250).sum() for rows in nuclei.values())
    assert true > 100 and sum(map(len, crops.values())) == pytest.approx(true, rel=0.05)


def test_every_nucleus_has_one_crop_around_it(nuclei, crops):
    claims = []
    for key, rows in nuclei.items():
        large = rows[rows[:, 2] >= 300]  # beside the smallest area, 250 px^2, either is right
        distance = np.hypot(*(large[:, None, :2] - crops[key]).transpose(2, 0, 1))
        claims += (distance < 3).sum(1).tolist()
    counts = Counter(claims)
    assert counts[1] / len(claims) >= 0.95 and set(counts) <= {0, 1}, counts


def test_compound_dose_and_mechanism_are_those_of_the_wells(fields, cells):
    wells = {
        (r["Image_Metadata_Plate_DAPI"], r["Image_Metadata_Well_DAPI"]): r
        for r in read(fields / "BBBC021_v1_image.csv")
    }
    world = SyntheticCells("test")
    for row in read(cells / "cells_df_all.csv"):
        well = wells[row["BATCH"], row["WELL"]]
        compound = well["Image_Metadata_Compound"]
        assert row["CPD_NAME"] == compound and float(row["DOSE"]) == float(well["Image_Metadata_Concentration"])
        assert row["STATE"] == str(int(compound != "DMSO"))
        true = "DMSO" if compound == "DMSO" else world.moas[world.compound_moa[world.compound_id(compound)]]
        assert row["ANNOT"] == true
    data = ImagingCells(cells, None)
    for i, name in enumerate(data.compounds):
        np.testing.assert_allclose(data.conditions[i], world.conditions[world.compound_id(name)])


def test_brightness_is_comparable_between_plates(cells):
    """The camera of the second plate has other gains; on the scale of the plates the cells are alike."""
    gains = np.array([draw_camera_of(plate).gain[2] for plate in range(2)])
    assert max(gains) / min(gains) > 1.2
    scales = json.loads((cells / "manifest.json").read_text())["scales"]
    width = np.array([scale["high"][2] - scale["low"][2] for scale in scales.values()])
    assert width[1] / width[0] == pytest.approx(gains[1] / gains[0], rel=0.15)
    middle = {"22000": [], "22001": []}
    for row in read(cells / "cells_df_all.csv"):
        week, plate, name = row["SAMPLE_KEY"].split("_", 2)
        if row["STATE"] == "0":
            middle[plate].append(np.load(cells / week / plate / f"{name}.npy")[40:56, 40:56, 2].mean())
    first, second = (np.median(values) for values in middle.values())
    assert first == pytest.approx(second, rel=0.15) and 60 < first < 250


def draw_camera_of(plate):
    from cellenv.data.synthetic import draw_optics

    rng = np.random.default_rng((0, 4, plate))
    draw_optics(rng)
    return draw_camera(rng)


def test_splits_keep_wells_whole_and_every_plate_has_controls_on_both_sides(cells):
    sides = {}
    for row in read(cells / "cells_df_all.csv"):
        sides.setdefault((row["BATCH"], row["WELL"], row["STATE"]), set()).add(row["SPLIT"])
    assert all(len(side) == 1 for side in sides.values())
    for plate in ("Week1_22000", "Week2_22001"):
        assert {side for (p, _, s), own in sides.items() if (p, s) == (plate, "0") for side in own} == {"train", "test"}
    ImagingCells(cells, "train").control_plates, ImagingCells(cells, "test").control_plates


def test_the_manifest_accounts_for_every_nucleus(fields, cells):
    manifest = json.loads((cells / "manifest.json").read_text())
    rows = read(cells / "cells_df_all.csv")
    for plate, count in manifest["plates"].items():
        left_out = sum(count.get(reason, 0) for reason in ("border", "small", "large", "blurred"))
        assert count["nuclei"] == count["cells"] + left_out and count["fields"] == count["wells"] == 6
        assert count["cells"] == sum(row["BATCH"] == plate for row in rows)
        assert (cells / "contact_sheets" / f"{plate}.jpg").is_file()
    assert sum(n for side in manifest["cells"].values() for n in side.values()) == len(rows)
    assert manifest["zoom"] == 1.0 and manifest["config"]["folder"] == str(fields)


def test_another_split_of_finished_cells_reads_no_field(fields, cells, capsys):
    for file in fields.rglob("*.tif"):
        was = file.stat()
        file.write_bytes(bytes(was.st_size))  # unreadable, and by size and time the file that it was
        os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    run("prepare", args=[str(fields), "--out", str(cells), *FLAGS.split(), "--split-by", "compound"])
    assert len(ImagingCells(cells, "test", unseen=None).compounds) == 2
    with pytest.raises(SystemExit, match="2"):
        run("prepare", args=[str(fields), "--out", str(cells), *FLAGS.split(), "--neighbours", "mask"])
    assert "other settings: neighbours was keep, now mask" in capsys.readouterr().err

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellenv.data.phenotypes import UNTREATED
from cellenv.data.prepare.nuclei import measure_nuclei
from cellenv.data.rendering import Optics, render_stains
from cellenv.data.scene import draw_field_scene
from cellenv.data.synthetic_plates import LIGHT, OFFSET, Camera, photograph, plate_wells, write_plates

SHAPE = (160, 224)


def read(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(folder):
    sizes = {"plates": 2, "controls": 1, "replicates": 2, "sites": 1}
    write_plates(folder, compounds=("taxol",), shape=SHAPE, seed=3, **sizes)


def test_plates_are_tiffs_and_the_published_tables(tmp_path):
    write(tmp_path / "a")
    rows = read(tmp_path / "a" / "BBBC021_v1_image.csv")
    assert Counter((row["Image_Metadata_Compound"], row["Image_Metadata_Concentration"]) for row in rows) == {
        **{("DMSO", "0.0"): 2, ("taxol", "0.1"): 2, ("taxol", "1.0"): 2},
    }
    for row in rows:
        for stain in ("DAPI", "Tubulin", "Actin"):
            pixels = tifffile.imread(tmp_path / "a" / row[f"Image_PathName_{stain}"] / row[f"Image_FileName_{stain}"])
            assert pixels.shape == SHAPE and pixels.dtype == np.uint16 and pixels.max() > 2 * pixels.min()
    dna = tifffile.imread(tmp_path / "a" / rows[0]["Image_PathName_DAPI"] / rows[0]["Image_FileName_DAPI"])
    own = [r for r in read(tmp_path / "a" / "truth.csv") if (r["plate"], r["well"]) == ("Week1_22000", "B02")]
    inside = [dna[int(float(r["y"])), int(float(r["x"]))] for r in own if int(r["area"]) > 200]
    assert len(inside) > 2 and np.mean(np.array(inside) > 4 * np.median(dna)) > 0.8
    write(tmp_path / "b")
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.*"))
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_no_part_of_a_picture_is_left_if_writing_fails(tmp_path, monkeypatch):
    def fail(file, pixels):
        if isinstance(file, Path):
            file.touch()
        raise OSError("no space left")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path)
    assert not list(tmp_path.rglob("*.tif"))


def test_the_camera_darkens_corners_and_scales_channels():
    camera = Camera(gain=np.array([1.0, 2.0, 0.5]), centre=np.full((3, 2), 0.5), falloff=0.4)
    light = camera.light(SHAPE)
    assert light.max() == pytest.approx(1, abs=1e-3) and light[:, 0, 0] == pytest.approx([0.6] * 3)
    even = Camera(gain=camera.gain, centre=camera.centre, falloff=0.0)
    stains = np.ones((3, *SHAPE), np.float32)
    found = photograph(stains, Optics(haze=0.0), even, np.random.default_rng(0)).mean((1, 2))
    assert found == pytest.approx(OFFSET + LIGHT * camera.gain, rel=0.01)


def test_cells_fill_a_field_of_any_shape():
    scene = draw_field_scene(UNTREATED, SHAPE, np.random.default_rng(0))
    stains, nuclei, cells = render_stains(scene, UNTREATED, SHAPE, np.random.default_rng(1))
    assert stains.shape == (3, *SHAPE) and nuclei.shape == cells.shape == SHAPE
    assert 2 < len(measure_nuclei(nuclei).areas) <= len(scene.nucleus_cell)
    assert ((nuclei > 0) <= (cells > 0)).all() and (stains[:, cells == 0] == 0).all()


def test_wells_are_named_and_doses_alternate():
    wells = plate_wells(("a", "b"), controls=9, replicates=2)
    assert [well.name for well in wells[8:12]] == ["B10", "B11", "C02", "C03"]
    assert [(well.compound, well.dose) for well in wells[8:]] == [
        *[(None, 0.0), ("a", 0.1), ("b", 0.1), ("a", 1.0), ("b", 1.0)],
    ]


@pytest.mark.parametrize("wrong", [{"plates": 0}, {"controls": 70}, {"shape": (10, 12)}])
def test_what_fits_no_plate_is_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match="need 1 to 60 wells"):
        write_plates(tmp_path, **wrong)
    with pytest.raises(ValueError, match="unknown compound 'aspirin'"):
        write_plates(tmp_path, compounds=("aspirin",))

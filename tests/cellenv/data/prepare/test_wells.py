import json
from dataclasses import replace

import numpy as np
import pytest

from cellenv.data.prepare.illumination import fit_scale
from cellenv.data.prepare.wells import WellJob, enlarge, prepare_well, record_of, save_crop, summarize_well
from tests.cellenv.data.prepare.plate_toys import CENTRES, RULES, threshold, write_plate


@pytest.fixture
def job(tmp_path):
    fields = write_plate(tmp_path / "fields")
    statistics = summarize_well(fields, 1000, skip_bad=False)
    assert statistics is not None and statistics.count == 3
    out = tmp_path / "out"
    record_of(out, fields[0]).parent.mkdir(parents=True)
    scale = fit_scale(statistics, RULES.scale, RULES.channels)
    return WellJob(
        out=out,
        fields=tuple(fields[:1]),
        scale=scale,
        zoom=1.0,
        rules=RULES,
        drawn=frozenset([fields[0].name]),
        digest="d",
    )


def test_the_cells_of_a_well(job):
    record = prepare_well(job, threshold)
    assert record == json.loads((job.out / "prepare" / "W_1" / "A01.json").read_text()) and record["digest"] == "d"
    field = record["fields"]["W_1_A01_s1"]
    assert field["nuclei"] == 3 and field["rejected"] == {"border": 1} and len(field["cells"]) == 2
    for cell, (y, x) in zip(sorted(field["cells"], key=lambda cell: cell["x"]), CENTRES):
        assert (cell["y"], cell["x"]) == pytest.approx((y, x), abs=0.6)
        crop = np.load(job.out / "W" / "1" / f"A01_s1_{cell['object']}.npy")
        assert crop.shape == (32, 32, 3) and crop.dtype == np.uint8
        assert crop[12:20, 12:20].min() > 200 and crop[:2].max() < 60
    assert (job.out / "prepare" / "W_1" / "A01_s1.jpg").is_file()


def test_zoom_enlarges_cells_and_keeps_places(job):
    zoomed = prepare_well(replace(job, zoom=1.5), threshold)["fields"]["W_1_A01_s1"]["cells"]
    assert len(zoomed) == 3  # a crop shows less of the field
    for cell, (y, x) in zip(sorted(zoomed, key=lambda cell: cell["x"]), CENTRES):
        assert (cell["y"], cell["x"]) == pytest.approx((y, x), abs=0.6)
        assert cell["area"] == pytest.approx(200, rel=0.15)  # of the file
        crop = np.load(job.out / "W" / "1" / f"A01_s1_{cell['object']}.npy")
        assert (crop[..., 2] > 128).sum() == pytest.approx(1.5**2 * 200, rel=0.15)


def test_a_damaged_field_is_an_error_or_listed(job):
    job.fields[0].planes[0].file.write_bytes(b"no TIFF")
    with pytest.raises(ValueError, match=r"1_A01\.tif"):
        prepare_well(job, threshold)
    assert not record_of(job.out, job.fields[0]).exists()
    record = prepare_well(replace(job, rules=replace(RULES, skip_bad=True)), threshold)
    assert record["fields"] == {} and "1_A01.tif" in record["unreadable"]["W_1_A01_s1"]
    assert summarize_well(job.fields, 10, skip_bad=True) is None


def test_a_crop_leaves_no_half_file(tmp_path, monkeypatch):
    file = tmp_path / "a" / "b.npy"
    save_crop(file, np.zeros((2, 2, 1), np.uint8))
    assert [path.name for path in file.parent.iterdir()] == ["b.npy"]


def test_enlarging_by_one_changes_nothing():
    pixels = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)
    assert enlarge(pixels, 1.0) is pixels and enlarge(pixels, 2.0).shape == (2, 10, 14)

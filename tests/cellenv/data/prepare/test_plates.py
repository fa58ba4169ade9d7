import json
from dataclasses import replace

import numpy as np
import pytest

from cellenv.data.prepare import plates
from cellenv.data.prepare.output import INDEX
from cellenv.data.prepare.plates import Zoom, check_settings, finished, load_scale, near_one, prepare_plates
from tests.cellenv.data.prepare.plate_toys import RULES, make_threshold, threshold, write_plate

SAME = Zoom(factor=1.0, nucleus=36, diameter=None)


def run(fields, out, zoom=SAME, finder=make_threshold, settings=None, workers=1, rules=RULES):
    return prepare_plates(fields, out, rules, zoom, finder, settings=settings or {"crop": 32}, workers=workers)


def crops(out):
    return {file.relative_to(out).as_posix(): np.load(file).tobytes() for file in out.rglob("*.npy")}


@pytest.fixture
def fields(tmp_path):
    return [*write_plate(tmp_path / "fields"), *write_plate(tmp_path / "fields", "2")]


def test_two_processes_write_what_one_does(fields, tmp_path):
    one, two = run(fields, tmp_path / "one"), run(fields, tmp_path / "two", workers=2)
    assert one == two and crops(tmp_path / "one") == crops(tmp_path / "two") and len(crops(tmp_path / "one")) == 12
    assert set(one["scales"]) == {"W_1", "W_2"} and len(one["fields"]) == 6
    assert {file.name for file in (tmp_path / "one" / "contact_sheets").iterdir()} == {"W_1.jpg", "W_2.jpg"}


def test_an_error_of_another_process_is_one_of_this(fields, monkeypatch, tmp_path):
    class Executor:
        def map(self, work, jobs):
            for job in jobs:
                fields[0].planes[0].file.write_bytes(b"no TIFF")
                yield work(job)

    with pytest.raises(ValueError, match=r"1_A01\.tif") as caught:
        list(plates._raised_here(Executor().map(lambda f: plates.summarize_well([f], 10, False), fields[:1])))
    assert caught.traceback[-1].name == "_raised_here"


def test_a_stopped_run_goes_on_with_the_wells_that_are_missing(fields, tmp_path):
    whole = run(fields, tmp_path / "whole")
    calls = []

    def failing():
        def find(dna):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return threshold(dna)

        return find

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(fields, out, finder=failing)
    assert sorted(file.name for file in out.rglob("A*.json")) == ["A01.json", "A02.json"]
    calls[:] = [1] * 10
    assert run(fields, out, finder=failing) == whole and len(calls) == 14
    assert crops(out) == crops(tmp_path / "whole")


def test_a_plate_with_more_fields_is_done_again_and_other_plates_stay(fields, tmp_path):
    out = tmp_path / "out"
    run([*fields[:2], *fields[3:]], out)
    other = out / "prepare" / "W_2" / "A01.json"
    stamps = [file.stat().st_mtime_ns for file in (out / "prepare" / "W_1" / "A01.json", other)]
    run(fields, out)
    later = [file.stat().st_mtime_ns for file in (out / "prepare" / "W_1" / "A01.json", other)]
    assert later[0] > stamps[0] and later[1] == stamps[1]


def test_the_table_of_before_is_set_aside_while_its_cells_are_made_anew(fields, tmp_path):
    out, first = tmp_path / "out", fields[:3]
    run(first, out)
    (out / INDEX).write_text("old")
    run(first, out)
    run([*first, *fields[3:]], out)  # a plate more
    assert (out / INDEX).read_text() == "old"
    first[0].planes[0].file.touch()

    def stopped():
        assert not (out / INDEX).exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(first, out, finder=lambda: lambda dna: stopped())
    assert (out / "prepare" / INDEX).read_text() == "old" and not (out / INDEX).exists()
    assert run(first, out)["fields"] and (out / "prepare" / INDEX).read_text() == "old"
    (out / INDEX).write_text("new")
    run(first, out)
    assert (out / INDEX).read_text() == "new"


def test_without_the_notes_of_before_its_table_is_set_aside_too(fields, tmp_path):
    run(fields[:3], tmp_path / "out")
    (tmp_path / "out" / INDEX).write_text("old")
    (tmp_path / "out" / "prepare").rename(tmp_path / "notes")
    run(fields[:3], tmp_path / "out", settings={"crop": 64})
    assert (tmp_path / "out" / "prepare" / INDEX).read_text() == "old" and not (tmp_path / "out" / INDEX).exists()


def test_a_field_that_was_damaged_is_tried_again(fields, tmp_path):
    file = fields[1].planes[0].file
    whole = file.read_bytes()
    file.write_bytes(b"no TIFF")
    rules = replace(RULES, skip_bad=True)
    assert list(run(fields[:3], tmp_path / "out", rules=rules)["unreadable"]) == [fields[1].name]
    file.write_bytes(whole)
    again = run(fields[:3], tmp_path / "out", rules=rules)
    assert not again["unreadable"] and len(again["fields"][fields[1].name]["cells"]) == 2


MEASURED = Zoom(factor=None, nucleus=24, diameter=None)


def test_other_files_of_the_same_names_are_prepared_anew(tmp_path):
    old, new = write_plate(tmp_path / "old"), write_plate(tmp_path / "new", radius=7.0)
    first, fresh = run(old, tmp_path / "out", MEASURED), run(new, tmp_path / "fresh", MEASURED)
    assert first["zoom"] != fresh["zoom"] and [field.name for field in old] == [field.name for field in new]
    assert run(new, tmp_path / "out", MEASURED) == fresh
    assert crops(tmp_path / "fresh").items() <= crops(tmp_path / "out").items()


def test_a_folder_that_was_moved_is_not_prepared_anew(tmp_path):
    fields = write_plate(tmp_path / "old")
    first = run(fields, tmp_path / "out", MEASURED)
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "prepare").rglob("*.json")}
    (tmp_path / "old").rename(tmp_path / "new")
    moved = [
        replace(f, planes=tuple(p._replace(file=tmp_path / "new" / p.file.name) for p in f.planes)) for f in fields
    ]
    assert run(moved, tmp_path / "out", MEASURED) == first
    assert stamps == {file: file.stat().st_mtime_ns for file in stamps}


def test_plates_that_come_later_have_the_zoom_of_the_first(fields, tmp_path):
    first = run(fields[:3], tmp_path / "out", MEASURED)
    assert run(write_plate(tmp_path / "later", "3", radius=6.0), tmp_path / "out", MEASURED)["zoom"] == first["zoom"]


def test_damaged_controls_are_no_pilots(tmp_path):
    fields = write_plate(tmp_path / "fields")
    fields[1] = replace(fields[1], is_control=True)
    rules = replace(RULES, skip_bad=True)
    for damaged, pilot in ((fields[0], "W_1_A02_s1"), (fields[1], "W_1_A03_s1")):
        damaged.planes[0].file.write_bytes(b"no TIFF")
        with pytest.raises(ValueError, match=r"1_A01\.tif"):
            run(fields, tmp_path / f"strict-{pilot}", MEASURED)
        run(fields, tmp_path / pilot, MEASURED, rules=rules)
        assert json.loads((tmp_path / pilot / "prepare" / "zoom.json").read_text())["fields"] == [pilot]


def test_other_settings_are_refused(fields, tmp_path):
    run(fields[:1], tmp_path)
    with pytest.raises(ValueError, match="begun with other settings: crop was 32, now 64"):
        run(fields[:1], tmp_path, settings={"crop": 64})


def test_the_size_of_nuclei_is_measured(tmp_path):
    fields, zoom = write_plate(tmp_path / "fields"), Zoom(factor=None, nucleus=24, diameter=None)
    result = run(fields, tmp_path / "out", zoom)
    assert result["zoom"] == pytest.approx(24 / 16, rel=0.05)
    noted = json.loads((tmp_path / "out" / "prepare" / "zoom.json").read_text())
    assert noted["zoom"] == result["zoom"] and noted["fields"] == ["W_1_A01_s1"]
    assert run(fields, tmp_path / "out", zoom)["zoom"] == result["zoom"]
    assert run(fields, tmp_path / "given", replace(zoom, diameter=12))["zoom"] == 2.0
    assert near_one(1.01) == 1.0 and near_one(0.97) == 0.97
    none = replace(RULES, filters=replace(RULES.filters, min_area=1e6))
    with pytest.raises(ValueError, match="no nucleus in W_1_A01_s1: give --nucleus-diameter"):
        run(fields, tmp_path / "none", zoom, rules=none)


def test_the_contact_sheet_shows_a_few_fields(fields, tmp_path, monkeypatch):
    monkeypatch.setattr(plates, "DRAWN", 2)
    run(fields[:3], tmp_path)
    assert len(list((tmp_path / "prepare" / "W_1").glob("*.jpg"))) == 2


@pytest.mark.parametrize("read", [lambda file: check_settings(file, {}), lambda file: finished(file, ""), load_scale])
@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 200_000, b'{"zoom": 1', b"PK\3\4", b"\x93NUMPY"])
def test_a_damaged_note_is_named(tmp_path, read, content):
    file = tmp_path / "prepare" / "note"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ValueError, match="prepare/note"):
        read(file)

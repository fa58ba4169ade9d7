import json
import os
import pickle

import numpy as np
import pytest
import torch

from cellenv.data import packed
from cellenv.data.imaging import ImagingCells
from tests.cellenv.imaging_toys import ROWS, write_folder, write_pixels, write_table


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path)
    for file in tmp_path.rglob("*.npy"):
        os.utime(file, (0, 0))  # as if copied: all of one size and age
    return tmp_path


@pytest.fixture
def cache(folder):
    ImagingCells(folder, cache=folder / "cache")
    return folder / "cache"


def everything(folder, cache):
    data = ImagingCells(folder, None, unseen=None, cache=cache)
    return data.raw(torch.arange(len(data)))


def test_a_packed_copy_equals_the_files_and_is_made_once(folder, cache, monkeypatch, capsys):
    monkeypatch.setattr(packed, "_pack", lambda *_: pytest.fail("packed again"))
    assert sorted(file.name for file in cache.iterdir()) == ["images.json", "images.npy"]
    assert torch.equal(everything(folder, cache), everything(folder, None))


def test_packing_shows_its_progress(folder, capsys):
    everything(folder, folder / "cache")
    assert f"pack {folder.name}: 100%" in capsys.readouterr().err


def replace_image(folder):
    write_pixels(folder, ROWS[1][0], np.full((4, 6, 3), 77, np.uint8))


def drop_a_row(folder):
    write_table(folder, ROWS[1:])


def turn_rows(folder):
    write_table(folder, ROWS[::-1])


@pytest.mark.parametrize("change", [replace_image, drop_a_row, turn_rows])
def test_a_changed_folder_is_packed_anew(folder, cache, change):
    change(folder)
    with pytest.warns(UserWarning, match="have changed.*packed anew"):
        new = everything(folder, cache)
    assert torch.equal(new, everything(folder, None))


def cut(cache):
    file = cache / "images.npy"
    file.write_bytes(file.read_bytes()[:-5])


def flip_a_bit(cache):
    pixels = np.load(cache / "images.npy")
    pixels[3, 0, 0, 0] ^= 1
    np.save(cache / "images.npy", pixels)


def shorten(cache):
    np.save(cache / "images.npy", np.load(cache / "images.npy")[:-1])


def garble_record(cache):
    (cache / "images.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "no whole copy"),
        (flip_a_bit, "image W2_20_d_3.0 is not what its file holds"),
        (shorten, "need 7 images"),
        (garble_record, "no whole copy"),
    ],
)
def test_a_damaged_copy_is_made_anew(folder, cache, damage, reason):
    damage(cache)
    with pytest.warns(UserWarning, match=f"{reason}.*packed anew"):
        new = everything(folder, cache)
    assert torch.equal(new, everything(folder, None))


def test_a_damaged_block_is_named_when_it_is_first_read(folder, cache, monkeypatch):
    monkeypatch.setattr(packed, "SPOT_CHECKS", 1)  # none of the images that opening looks at
    monkeypatch.setattr(packed, "BLOCK", 2)
    (cache / "images.json").unlink()  # packed anew, by blocks of two
    ImagingCells(folder, cache=cache)
    pixels = np.load(cache / "images.npy")
    for byte in (0, pixels[0].size - 1):
        spoiled = pixels.copy()
        spoiled[3].reshape(-1)[byte] ^= 1
        np.save(cache / "images.npy", spoiled)
        data = ImagingCells(folder, None, unseen=None, cache=cache)
        assert torch.equal(data.raw(torch.tensor([0, 1])), torch.from_numpy(pixels[:2]))
        for _ in range(2):
            with pytest.raises(ValueError, match=r"images.npy is damaged in images 2 to 3: remove it"):
                data.raw(torch.tensor([2]))
    (cache / "images.npy").unlink()
    with pytest.warns(UserWarning, match="packed anew"):
        assert torch.equal(everything(folder, cache), torch.from_numpy(pixels))


def test_a_copy_without_checksums_is_made_anew(folder, cache):
    record = json.loads((cache / "images.json").read_text())
    del record["checksums"]
    (cache / "images.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="no whole copy.*checksums.*packed anew"):
        everything(folder, cache)


def test_a_stopped_packing_leaves_the_old_copy_or_none(folder, cache, monkeypatch):
    before = (cache / "images.npy").read_bytes()
    replace_image(folder)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.warns(UserWarning, match="packed anew"), pytest.raises(KeyboardInterrupt):
        everything(folder, cache)
    assert (cache / "images.npy").read_bytes() == before
    assert sorted(file.name for file in cache.iterdir()) == ["images.json", "images.npy"]


@pytest.fixture
def few_checks(monkeypatch):
    """Opening looks at the first image alone."""
    monkeypatch.setattr(packed, "SPOT_CHECKS", 1)


def test_a_packing_that_is_stopped_before_its_record_is_packed_anew(folder, cache, monkeypatch, few_checks):
    replace_image(folder)
    synced, fsync = [], os.fsync

    def stop_at_the_second(stream):
        if synced:
            raise KeyboardInterrupt
        synced.append(fsync(stream))

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="packed anew"):
        patch.setattr(os, "fsync", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            everything(folder, cache)
    with pytest.warns(UserWarning, match="have changed.*packed anew"):
        new = everything(folder, cache)
    assert torch.equal(new, everything(folder, None))


def test_an_image_that_changes_while_it_is_packed_is_packed_anew(folder, monkeypatch, few_checks):
    read = packed.read_npy

    def change_behind(file, channels):
        if file.name == "g_6.0.npy":  # the last one
            replace_image(folder)
        return read(file, channels)

    with monkeypatch.context() as patch:
        patch.setattr(packed, "read_npy", change_behind)
        ImagingCells(folder, cache=folder / "cache")
    with pytest.warns(UserWarning, match="have changed.*packed anew"):
        new = everything(folder, folder / "cache")
    assert torch.equal(new, everything(folder, None))


def test_the_size_is_known_though_no_image_that_is_looked_at_can_be_read(folder, few_checks):
    (folder / "W1/10/a_0.0.npy").write_bytes(b"none")
    with pytest.warns(UserWarning, match=r"1 rows .*\n.*W1_10_a_0.0.*damaged"):
        assert ImagingCells(folder, unseen=None, skip_bad=True, cache=folder / "cache").size == (3, 4, 6)


def test_unreadable_images_are_named_when_packed_and_when_opened(folder, cache):
    (folder / "W1/10/c_2.0.npy").write_bytes(b"none")
    with pytest.warns(UserWarning, match="changed"), pytest.raises(ValueError, match=r"image W1_10_c_2.0.*damaged"):
        everything(folder, cache)
    with pytest.raises(ValueError, match=r"image W1_10_c_2.0.*damaged"):
        everything(folder, cache)
    assert list(json.loads((cache / "images.json").read_text())["unreadable"]) == ["W1_10_c_2.0"]
    with pytest.warns(UserWarning, match="1 rows"):
        data = ImagingCells(folder, "train", cache=cache, skip_bad=True)
    assert data.raw(torch.tensor([0, 1, 2]))[:, 1, 2, 2].tolist() == [0, 10, 40]


def test_another_process_gets_no_pixels_but_maps_them(folder, cache):
    data = ImagingCells(folder, cache=cache)
    expected = data.raw(torch.tensor([3]))
    sent = pickle.dumps(data._store)
    assert b"images.npy" in sent and expected.numpy().tobytes() not in sent
    assert torch.equal(pickle.loads(sent).raw(torch.tensor([4])), expected)

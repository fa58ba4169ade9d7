"""What a run does first: refuse what would stop it, tell what would not, and remember both until a file changes."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from algorithms.config import DataConfig
from algorithms.inspection import cached
from algorithms.inspection.cached import check_data
from cellenv.data.layouts import BBBC021
from tests.cellenv.data.inspection.folders import ROWS, pixels, write_sound
from tests.cellenv.imaging_toys import write_pixels


@pytest.fixture
def inspected(monkeypatch):
    """Folders that were inspected anew."""
    calls = []
    real = cached.inspect_folder
    monkeypatch.setattr(cached, "inspect_folder", lambda folder: calls.append(folder.path) or real(folder))
    return calls


def test_the_embedded_world_is_not_inspected(inspected):
    check_data(DataConfig())
    assert inspected == []


@pytest.mark.parametrize("cache", [None, "packed"])
def test_a_folder_is_inspected_until_a_file_changes(tmp_path, inspected, monkeypatch, cache):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = write_sound(tmp_path / "cells")
    config = DataConfig(path=folder, cache=cache and tmp_path / cache)
    told = []
    for _ in range(2):
        check_data(config, tell=told.append)
    assert len(inspected) == 1 and len(told) == 2 and told[0] == told[1] and "fewer than 30 images" in told[0]
    (stored,) = (tmp_path / (cache or "user/cellfluxrl")).glob("check-*.json")
    stored.write_text("{")  # damaged
    check_data(config, tell=told.append)
    write_pixels(folder, ROWS[0][0], np.pad(pixels(0), ((0, 8), (0, 0), (0, 0))))
    with pytest.raises(ValueError, match="images cannot be read"):
        check_data(config)
    assert len(inspected) == 3 and json.loads(stored.read_text())["treated"] == 8


@pytest.mark.parametrize("rank", [0, 1])
def test_the_main_process_of_several_says_what_it_does_and_packs_for_all(tmp_path, monkeypatch, rank):
    done = []

    @contextmanager
    def main_process_first():
        done.append("wait")
        yield
        done.append((tmp_path / "packed" / "images.npy").exists())

    processes = SimpleNamespace(num_processes=2, is_main_process=rank == 0, main_process_first=main_process_first)
    monkeypatch.setattr(cached, "PartialState", lambda: processes)
    monkeypatch.setattr(cached, "report", done.append)
    check_data(DataConfig(path=write_sound(tmp_path / "cells"), cache=tmp_path / "packed"), tell=str)
    assert done == ["check the data", "wait", rank == 0]


def test_a_cache_that_cannot_be_written_ends_nothing(tmp_path, inspected, capsys):
    (tmp_path / "file").write_text("")
    check_data(DataConfig(path=write_sound(tmp_path / "cells"), cache=tmp_path / "file"))
    assert "is not remembered" in capsys.readouterr().out


def test_what_would_stop_a_run_is_refused_by_row_and_flag(tmp_path):
    folder = write_sound(tmp_path / "cells", ROWS, [["", "0"], ["taxol", 1]])
    with pytest.raises(
        ValueError, match=r"cells cannot be used.*\n- compounds have no row .* \(1\): ALLN \(4 images\); .*--emb"
    ):
        check_data(DataConfig(path=folder, cache=tmp_path / "cache"))
    check_data(DataConfig(path=folder, cache=tmp_path / "cache", skip_bad=True))


def test_held_out_compounds_count_where_a_run_is_about_them(tmp_path):
    rows = [
        (key, "docetaxel", *rest) if name == "taxol" else (key, name, *rest)
        for key, name, *rest in ROWS
        if name != "ALLN"
    ]
    config = DataConfig(path=write_sound(tmp_path / "cells", rows, [["", "0"], ["docetaxel", 1]]), cache=tmp_path)
    assert "docetaxel" in BBBC021.unseen
    with pytest.raises(ValueError, match="--include-unseen, as all its compounds are held out"):
        check_data(config)
    check_data(config, unseen=True)

"""Data throughput: the random folder, and what is measured."""

import csv

import numpy as np
import pytest
import torch

from cellenv.data.imaging import ImagingCells
from examples.studies import data_throughput
from examples.studies.data_throughput import images_per_second, write_random_folder


def test_the_random_folder_holds_a_control_for_every_treated_image(tmp_path):
    write_random_folder(tmp_path, 140, np.random.default_rng(0))
    data = ImagingCells(tmp_path)
    assert len(data) == 140 and len(data.controls) == 20 and data.size == (3, 96, 96)
    assert data.draw_contexts(9, torch.Generator().manual_seed(0))["x0"].std() == pytest.approx(2 / 12**0.5, abs=0.01)
    with (tmp_path / "random_df_all.csv").open() as stream:
        assert {row["STATE"] for row in csv.DictReader(stream)} == {"0", "1"}


def test_every_row_is_read_once():
    seen = []
    images_per_second(lambda rows: seen.extend(rows.tolist()), torch.arange(10), 4, "toy")
    assert seen == list(range(10))


def test_all_rates_are_printed_and_nothing_is_left_behind(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    data_throughput.main(data_throughput.ThroughputConfig(images=60, epochs=1))
    out = capsys.readouterr().out
    assert all(name in out for name in ("pack", "open", "files, float32", "packed, uint8", "packed, float32"))
    assert list(tmp_path.iterdir()) == []

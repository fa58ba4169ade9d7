import csv

import numpy as np
import pytest
import torch


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import data_throughput

    return data_throughput


def test_the_random_folder_holds_a_control_for_every_treated_image(script, tmp_path):
    script.write_folder(tmp_path, 140, np.random.default_rng(0))
    data = script.ImagingCells(tmp_path)
    assert len(data) == 140 and len(data.controls) == 20 and data.size == (3, 96, 96)
    assert data.draw_contexts(9, torch.Generator().manual_seed(0))["x0"].std() == pytest.approx(2 / 12**0.5, abs=0.01)
    with (tmp_path / "random_df_all.csv").open() as stream:
        assert {row["STATE"] for row in csv.DictReader(stream)} == {"0", "1"}


def test_rate_counts_each_row_once(script):
    seen = []
    assert script.rate(lambda rows: seen.extend(rows.tolist()), torch.arange(10), 4, "toy") > 0
    assert seen == list(range(10))


def test_the_script_prints_all_five_rates_and_leaves_nothing_behind(script, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    script.main(script.PRESETS["smoke"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("pack", "open", "files, float32", "packed, uint8", "packed, float32"))
    assert list(tmp_path.iterdir()) == []

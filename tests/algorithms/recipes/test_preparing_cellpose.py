"""Plates prepared with Cellpose 3.1 as the segmenter: the real class on whole fields, with a stub for its network."""

import csv
import json

import numpy as np
import pytest

from algorithms.cli import run
from cellenv.data.prepare import nuclei
from tests.cellenv.data.prepare.plate_toys import CENTRES, write_plate
from tests.rewards.segmentation.cellpose_toys import ideal_output, inside_cellpose, needs3, save_random

pytestmark = [pytest.mark.slow, needs3, *inside_cellpose]
FLAGS = "--preset pattern --pattern {plate}_{well}.tif --stains actin=0 tubulin=1 DNA=2 --wells wells.csv"
SIZE = (
    "--crop-nucleus 50 --nucleus-diameter 16 --max-blur 20 --no-illumination --workers 1"  # 50 px: Cellpose's default
)


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Return a function that prepares a plate of disks with these weights of nuclei, and returns the folder."""
    from cellpose.resnet_torch import CPnet

    monkeypatch.setattr(CPnet, "forward", lambda network, planes: ideal_output(planes))
    monkeypatch.setattr(nuclei, "LONGEST", 288)  # px: the fields of 300 x 400 px have four tiles
    write_plate(tmp_path / "fields")
    (tmp_path / "fields" / "wells.csv").write_text("well,compound,moa\nA01,DMSO,\nA02,taxol,Stab\nA03,taxol,Stab\n")
    (tmp_path / "fields" / "emb.csv").write_text("name,0,1\ntaxol,1,2\n")
    file = save_random(tmp_path / "weights", diam_mean=30)

    def prepare(weights=file):
        models = ["--segmenter", "cellpose", "--nucleus-weights", str(weights)]
        words = [*FLAGS.split(), "--embeddings", "emb.csv", *SIZE.split(), *models]
        run("prepare", args=[str(tmp_path / "fields"), "--out", str(tmp_path / "cells"), *words])
        return tmp_path / "cells"

    return prepare


def test_cellpose_finds_the_nuclei_of_whole_fields(prepare, capsys):
    out = prepare()
    with (out / "cells_df_all.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for k, well in enumerate(("A01", "A02", "A03")):
        found = sorted((float(row["Y"]), float(row["X"])) for row in rows if row["WELL"] == well)
        np.testing.assert_allclose(
            found, [(y + k, x + k) for y, x in CENTRES[:2]], atol=1
        )  # the third is at the border
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["plates"]["batch_1"]["nuclei"] == 9 and manifest["plates"]["batch_1"]["border"] == 3
    assert manifest["zoom"] == 3.125 and manifest["settings"]["segmenter"].startswith("cellpose ")
    with pytest.raises(SystemExit, match="2"):
        prepare(save_random(out.parent / "other", seed=4))
    assert "other settings: segmenter was cellpose" in capsys.readouterr().err


def test_weights_that_are_not_there_are_named_before_any_field_is_read(prepare, capsys):
    with pytest.raises(SystemExit, match="2"):
        prepare("nowhere")
    assert "no Cellpose weights 'nowhere'" in capsys.readouterr().err

"""Folders in the layouts of RxRx1 and JUMP go the whole way of docs/real_data.md, with mechanisms and without."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from algorithms.cli import main
from cellenv.data.layouts import JUMP, RXRX1
from cellenv.data.stains import choose_stains
from cellenv.data.synthetic import SyntheticCells
from cellenv.networks import PRESETS, UNetConfig
from rewards import MoAClassifier, Reference

ORDER = "DNA=5,RNA=3,ER=4,AGP=2,Mito=1"
LAYOUTS = {"rxrx1": RXRX1, "jump": choose_stains(JUMP, channels=ORDER, cytoplasm="AGP")}
KEYS = {"rxrx1": "U2OS-01_2_B03_1_{}", "jump": "BR00116991_A01_s1_4_{}"}
FILES = {"rxrx1": ("rxrx1_df.csv", "embeddings.csv"), "jump": ("metadata_small.csv", "other.csv")}
TABLES = "--index metadata_small.csv --embeddings other.csv"
FLAGS = {"rxrx1": "", "jump": f"{TABLES} --label MOA --channels {ORDER} --cytoplasm AGP"}
COLUMNS = ("SAMPLE_KEY", "BATCH", "PLATE", "SPLIT", "CPD_NAME", "BROAD_SAMPLE", "STATE", "ANNOT", "MOA")


def write_folder(path, name):
    """Two compounds, five train and four test images each, and controls; stains of no role hold noise."""
    data, layout, rng = SyntheticCells("test", unseen=True), LAYOUTS[name], np.random.default_rng(0)
    of_treated = data.perturbation[data.treated]
    compounds = [data.treated[of_treated == p] for p in of_treated.unique()[:2]]
    rows = torch.cat([data.controls[:6], *(own[:9] for own in compounds)])
    splits = ["train"] * 3 + ["test"] * 3 + (["train"] * 5 + ["test"] * 4) * 2
    names = ["DMSO"] * 6 + ["first"] * 9 + ["second"] * 9
    planes = dict(
        zip(data.channels, ((data.images(rows)[..., 16:80, 16:80] + 1) * 127.5).byte().unbind(1), strict=True)
    )
    table = []
    for i, (compound, split) in enumerate(zip(names, splits, strict=True)):
        key, treated = KEYS[name].format(i), compound != "DMSO"
        noise = rng.integers(0, 200, (64, 64), np.uint8)
        pixels = [
            planes[channel][i].numpy() if channel in planes else noise + c for c, channel in enumerate(layout.channels)
        ]
        file = path / layout.file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack(pixels, -1))
        state = ("treated" if treated else "negative_control") if name == "rxrx1" else ""
        table.append((key, "b", "p", split, compound, compound, int(treated), state, f"of {compound}"))
    conditions = [("first", *rng.normal(size=6)), ("second", *rng.normal(size=6))]
    for file, header, content in zip(FILES[name], (COLUMNS, ("", *range(6))), (table, conditions), strict=True):
        with (path / file).open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *content])
    if name == "jump":
        (path / "metadata_large.csv").write_text("SAMPLE_KEY\n")


@pytest.fixture
def run_path(tmp_path, monkeypatch):
    """Return a function that runs every command on a folder, and reads the evaluation."""
    tiny = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
    monkeypatch.setitem(PRESETS, "embedded", tiny)
    monkeypatch.chdir(tmp_path)

    def run(name, *first, models=""):
        write_folder(tmp_path / "cells", name)
        flags = f"--layout {name} {FLAGS[name]}"
        cells, smoke = f"--data cells {flags}", "--preset smoke --threads 1 --mixed-precision no"
        models, base = f"--segmenter classical --reference reference.json {models}", "base/generator-000004"
        for command in (
            f"check cells {flags} --min-cells 2",
            *(f"{command} {cells}" for command in first),
            f"fit reference {cells} --segmenter classical --min-cells 2 --output reference.json",
            f"train base {smoke} {cells} --output-dir base",
            f"train nft {smoke} {cells} {models} --generator {base} --output-dir nft --trackers",
            f"evaluate {cells} {models} --base {base} --model rl=nft/model --output-dir again",
        ):
            main(command.split())
        assert (tmp_path / "nft" / "samples" / "000002.png").exists()
        return json.loads((tmp_path / "again" / "evaluation.json").read_text())

    return run


def test_six_channels_without_mechanisms_are_compared_with_their_compounds(run_path, tmp_path, capsys):
    evaluation = run_path("rxrx1")
    main("score cells --layout rxrx1 --segmenter classical --reference reference.json --output-dir scores".split())
    text = capsys.readouterr().out
    assert "no mechanisms of action" in text and "No judge knows these cells" in text
    reference = Reference.load("reference.json")
    assert (reference.by, reference.populations) == ("compound", ("first", "second"))
    assert list(evaluation["rows"]) == ["base", "rl", "real"] and evaluation["rows"]["rl"]["n_contexts"] == 4
    conditioned_on = {reward["name"]: reward["conditioned_on"] for reward in evaluation["rewards"]}
    assert conditioned_on.pop("containment") == "nothing" and [*conditioned_on.values()] == ["compound"] * 5
    assert "moa" not in conditioned_on and "frechet" not in evaluation["rows"]["rl"]
    assert evaluation["rows"]["rl"]["w1_mean"] > 0
    assert evaluation["rows"]["real"]["judge_containment"]["mean"] > 0.8  # it saw the stains of its roles
    with (tmp_path / "scores" / "measures.csv").open() as stream:
        scored = list(csv.DictReader(stream))
    assert all((row["reward_cell_count"] != "") == (row["compound"] != "DMSO") for row in scored) and len(scored) == 24


def test_a_judge_of_compounds_gives_cells_without_mechanisms_their_distances(run_path, capsys):
    cells = "--data cells --layout rxrx1"
    write_folder(Path("cells"), "rxrx1")
    models = "--segmenter classical --reference reference.json --judge judge.safetensors"
    for command in (
        f"fit classifier {cells} --label CPD_NAME --model judge --epochs 1 --output-dir .",
        f"fit reference {cells} --segmenter classical --min-cells 2 --output reference.json",
        f"train base --preset smoke --threads 1 --mixed-precision no {cells} --output-dir base",
        f"evaluate {cells} {models} --base base/generator-000004 --output-dir again",
    ):
        main(command.split())
    rows = json.loads(Path("again/evaluation.json").read_text())["rows"]
    assert rows["base"]["frechet"] > 0 and rows["base"]["diversity"] > 0 and "moa_accuracy" not in rows["base"]
    assert "No judge" not in capsys.readouterr().out


def test_five_channels_with_a_column_of_mechanisms_have_a_classifier(run_path):
    evaluation = run_path(
        "jump",
        "fit classifier --epochs 1 --output-dir .",
        "fit classifier --epochs 1 --output-dir . --model judge --seed 1",
        models="--classifier classifier.safetensors --judge judge.safetensors",
    )
    classifier = MoAClassifier.from_pretrained("classifier.safetensors")
    assert classifier.channels == LAYOUTS["jump"].channels and classifier.moas == ("of first", "of second")
    assert {reward["name"]: reward["conditioned_on"] for reward in evaluation["rewards"]}["moa"] == "moa"
    assert Reference.load("reference.json").by == "moa" and evaluation["rows"]["rl"]["frechet"] > 0
    assert evaluation["rows"]["real"]["judge_containment"]["mean"] > 0.8

"""The whole path of docs/real_data.md, in small: everything is trained on a folder and evaluated with its own judge."""

import json

import pytest
import torch

from algorithms.cli import main
from cellenv.data.synthetic import SyntheticCells
from cellenv.networks import PRESETS, UNetConfig
from rewards import MoAClassifier, Reference
from tests.folder_toys import write_folder


@pytest.fixture
def folder(tmp_path):
    """Held-out compounds alone: six mechanisms to train on, two to test on; one control in each batch of the test."""
    data = SyntheticCells("test", unseen=True)
    data.conditions = data.conditions[:, :8]  # unlike the embedded world's
    of_moa = data.compound_moa[data.perturbation[data.treated]]
    each = [data.treated[of_moa == m] for m in of_moa.unique()]
    train = torch.cat([*(rows[:6] for rows in each), data.controls[:4]])
    test = torch.cat([each[0][6:10], each[1][6:8], data.controls[4:6]])
    rows = torch.cat([train, test])
    write_folder(tmp_path / "cells", data, rows, data.images(rows), train=len(train))
    return tmp_path / "cells"


def test_the_whole_path(folder, tmp_path, monkeypatch):
    tiny = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
    monkeypatch.setitem(PRESETS, "embedded", tiny)
    monkeypatch.chdir(tmp_path)
    cells = f"--data {folder} --include-unseen"
    scores = f"{cells} --segmenter classical --classifier classifier.safetensors --judge judge.safetensors"
    scores += " --reference reference.json"
    smoke = "--preset smoke --threads 1 --mixed-precision no"
    base = "base/generator-000004"
    for command in (
        f"fit classifier {cells} --epochs 1 --output-dir .",
        f"fit classifier {cells} --epochs 1 --output-dir . --model judge --seed 1 --learning-rate 1e-3",
        f"fit reference {cells} --segmenter classical --min-cells 2 --output reference.json",
        f"train base {smoke} {cells} --output-dir base --judge judge.safetensors",
        f"train nft {smoke} {scores} --generator {base} --output-dir nft --trackers",
        f"evaluate {scores} --base {base} --model rl=nft/model --output-dir again",
    ):
        main(command.split())

    assert len(MoAClassifier.from_pretrained("classifier.safetensors").moas) == 6
    assert Reference.load("reference.json").about["segmenter"] == "classical"
    tested = read("classifier.json")["training"]["test_accuracy_per_moa"]
    assert sum(accuracy is None for accuracy in tested.values()) == 4  # the others have no image in the test split
    assert "frechet" in read(f"{base}/config.json")["metadata"]["validation"][-1]  # in the features of the judge
    trained, evaluated = read("nft/evaluation.json"), read("again/evaluation.json")
    assert trained["rows"] == evaluated["rows"] and list(evaluated["rows"]) == ["base", "rl", "real"]
    assert evaluated["rows"]["rl"]["n_contexts"] == 3  # fewer than asked for: six test images
    assert (tmp_path / "nft" / "samples" / "000002.png").exists()


def read(file):
    with open(file, encoding="utf-8") as stream:
        return json.load(stream)

"""Distances along a training are those of the evaluation."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comparison_toys import generator, rulers
from test_train_base import FewCells

from algorithms.evaluation import pairs_of


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import likeness

    return likeness


def test_it_is_one_draw_of_the_evaluation(script, data, tmp_path):
    from evaluate import evaluate_run

    model, own = generator(data, 0.1), rulers(len(data.moas))
    networks = {"judge": lambda images: own.judge(images)[1], "inception": lambda images: images.std((2, 3))}
    own = replace(own, features={"inception": networks["inception"]})
    likeness = script.Likeness.of(data, networks, contexts=14, seed=3, device="cpu")
    long = evaluate_run({"base": model}, data, tmp_path, rulers=own, contexts=14, group_size=1, seed=3)["rows"]
    for row, told in (("base", likeness(model)), ("real", likeness.floor)):
        assert told.keys() == {"frechet", "kernel", "frechet_inception", "kernel_inception"}
        assert told == pytest.approx({name: long[row][name] for name in told}, abs=1e-6)


def test_a_small_split_gives_all_that_it_has(script):
    cells = FewCells()
    likeness = script.Likeness.of(cells, {"judge": lambda x: x.mean((2, 3))}, contexts=99, seed=0, device="cpu")
    assert len(likeness.scene) == len(likeness.real["judge"]) == pairs_of(cells) == 8


def test_the_embedded_judge_is_for_the_embedded_world(script, tmp_path):
    from base_config import DEFAULT
    from base_validation import feature_networks

    from rewards import JudgeClassifier

    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    judge = JudgeClassifier.from_pretrained()
    found = feature_networks(DEFAULT, torch.device("cpu"))
    assert found.keys() == {"judge"} and found["judge"](images).equal(judge.features(images))
    elsewhere = replace(DEFAULT, data=Path("cells"))
    assert feature_networks(elsewhere, torch.device("cpu")) == {}
    judge.save_pretrained(tmp_path / "judge.safetensors")
    told = feature_networks(replace(elsewhere, judge=tmp_path / "judge.safetensors"), torch.device("cpu"))
    assert told["judge"](images).equal(judge.features(images))
    with pytest.raises(FileNotFoundError, match="no Inception weights at nowhere"):
        feature_networks(replace(elsewhere, inception=Path("nowhere")), torch.device("cpu"))

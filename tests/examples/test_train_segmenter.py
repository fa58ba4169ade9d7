import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rewards.judge import JudgeSegmenter
from rewards.segmentation import EmbeddedSegmenter

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(EXAMPLES))  # where the script finds command_line
    try:
        spec = importlib.util.spec_from_file_location("train_segmenter", EXAMPLES / "train_segmenter.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


def test_average_precision_by_hand(script):
    truth = torch.zeros(2, 10, 10, dtype=torch.int32)
    truth[0, :4, :4], truth[0, 6:, 6:] = 1, 2
    truth[1, :4, :4] = 1
    found = torch.zeros_like(truth)
    found[0, :4, :4], found[0, 6:, 8:] = 5, 1  # IoU 1; IoU 8 / 16, which is not above 1/2
    found[1, 5:, 5:] = 1  # elsewhere
    assert script.average_precision(found, truth) == pytest.approx(1 / 5)  # 1 hit, 2 false, 2 missed
    assert script.average_precision(truth, truth) == 1
    assert script.average_precision(torch.zeros_like(truth), truth) == 0


def test_empty_images_have_empty_targets(script):
    scenes = script.Scenes(
        torch.full((4, 1, 32, 32), 200, dtype=torch.uint8),
        torch.ones(4, 32, 32, dtype=torch.uint8),
        torch.ones(4, 2, 32, 32, dtype=torch.float16),
    )
    _, flows, mask = script.corrupt(scenes, torch.arange(4), 1.0, torch.Generator().manual_seed(0))
    assert not flows.any() and not mask.any()


def test_the_model_decides_place_and_seed(script):
    for args, model, seed in (([], EmbeddedSegmenter, 0), (["--model", "judge"], JudgeSegmenter, 1)):
        config = script.settled(script.parse(script.PRESETS, None, args))
        assert (config.weights, config.seed, script.MODELS[config.model]) == (model.shipped, seed, model)
    assert script.parse(script.PRESETS, None, ["--preset", "judge"]) == script.Config(model="judge")
    told = script.settled(script.Config(model="judge", weights=Path("a.safetensors"), seed=0))
    assert (told.weights, told.seed) == (Path("a.safetensors"), 0)


def test_weights_stay_as_they_were_until_both_networks_are_trained(script, tmp_path, monkeypatch):
    file = tmp_path / "old.safetensors"
    EmbeddedSegmenter().save_pretrained(file)
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(network, scenes, steps, config, rng, name):
        if name == "cells":
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setattr(script, "fit", interrupted)
    monkeypatch.setattr(script, "make_scenes", lambda *_: None)
    monkeypatch.setattr(script, "validate", lambda *_: {"iou": 1.0, "ap50": 1.0, "ghosts": 0.0})
    with pytest.raises(KeyboardInterrupt):
        script.main(replace(script.PRESETS["smoke"], weights=file))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_a_smoke_run_leaves_weights_with_their_record_and_repeats(script, tmp_path):
    config = replace(script.PRESETS["smoke"], weights=tmp_path / "a.safetensors")
    script.main(config)
    script.main(replace(config, weights=tmp_path / "b.safetensors"))
    first, second = (EmbeddedSegmenter.from_pretrained(tmp_path / f"{name}.safetensors") for name in "ab")
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    training = json.loads((tmp_path / "a.json").read_text())["training"]
    assert (training["config"]["model"], training["config"]["seed"]) == ("segmenter", 0)
    assert set(training["results"]) == {"nuclei", "cells"}
    assert set(training["results"]["nuclei"]) == {"loss", "iou", "ap50", "ghosts"}

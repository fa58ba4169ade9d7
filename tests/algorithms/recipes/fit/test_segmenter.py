import json

from algorithms.cli import run
from rewards.judge import JudgeSegmenter


def test_the_smoke_run_leaves_weights_with_their_record(tmp_path, capsys):
    weights = tmp_path / "judge.safetensors"
    few = "--scenes 4 --validation 2 --batch-size 2 --nucleus-steps 1 --cell-steps 1"
    run("fit", "segmenter", args=["--preset", "smoke", "--model", "judge", "--weights", str(weights), *few.split()])
    JudgeSegmenter.from_pretrained(weights)
    training = json.loads(weights.with_suffix(".json").read_text())["training"]
    assert (training["config"]["model"], training["config"]["seed"]) == ("judge", 1)
    assert set(training["results"]) == {"nuclei", "cells"}
    assert set(training["results"]["nuclei"]) == {"loss", "iou", "ap50", "false_positive_rate"}
    assert "AP 0.5" in capsys.readouterr().out

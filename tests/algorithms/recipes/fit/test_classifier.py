import json

from algorithms.cli import run
from cellenv.data.synthetic import SyntheticCells
from rewards import JudgeClassifier, MoAClassifier


def test_the_smoke_run_writes_weights_scores_and_a_picture(tmp_path, capsys):
    run("fit", "classifier", args=["--preset", "smoke", "--limit", "24", "--output-dir", str(tmp_path)])
    model = MoAClassifier.from_pretrained(tmp_path / "classifier.safetensors")
    assert model.moas == SyntheticCells.moas and model.temperature != 1
    training = json.loads((tmp_path / "classifier.json").read_text())["training"]
    assert f"test accuracy {training['test_accuracy']:.3f}" in capsys.readouterr().out
    assert training["test_images"] == training["train_images"] == 24
    assert (tmp_path / "classifier_confusion.png").stat().st_size > 10_000


def test_the_judge_has_an_architecture_of_its_own_and_may_lie_elsewhere(tmp_path):
    weights = tmp_path / "mine.safetensors"
    flags = ["--preset", "smoke", "--limit", "12", "--model", "judge", "--weights", str(weights)]
    run("fit", "classifier", args=[*flags, "--output-dir", str(tmp_path / "out")])
    assert JudgeClassifier.from_pretrained(weights).moas == SyntheticCells.moas
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["judge_confusion.png"]

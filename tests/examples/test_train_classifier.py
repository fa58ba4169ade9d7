import json
from dataclasses import replace

import pytest
import torch
from folder_toys import write_folder
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from cellenv.data.synthetic import SyntheticCells
from rewards.classifier import MoAClassifier


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import train_classifier

    return train_classifier


def test_temperature_is_found(script):
    """Labels drawn from softmax(logits / 3): T = 3, up to the noise of 20,000 draws."""
    logits = 6 * torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0))
    moa = torch.multinomial((logits / 3).softmax(1), 1, generator=torch.Generator().manual_seed(1)).squeeze(1)
    assert script.fit_temperature(logits, moa) == pytest.approx(3, rel=0.04)


def test_calibration_and_confusion_equal_torchmetrics(script):
    logits = 3 * torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    moa = torch.randint(5, (500,), generator=torch.Generator().manual_seed(1))
    expected = multiclass_calibration_error(logits.softmax(1), moa, 5, n_bins=15)
    assert script.calibration_error(logits, moa) == pytest.approx(float(expected), abs=1e-6)
    assert script.confusion_matrix(logits, moa).equal(multiclass_confusion_matrix(logits, moa, 5))


def test_turn_uses_the_eight_orientations_of_the_square_and_no_other(script):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        turned = script.turn(torch.arange(4.0).reshape(1, 1, 2, 2).expand(200, 1, 2, 2))
    corners = {tuple(image.flatten().tolist()) for image in turned}
    assert len(corners) == 8
    assert all(abs(a - d) == 3 or abs(b - c) == 3 for a, b, c, d in corners)  # 0 and 3 stay opposite


@pytest.mark.parametrize("model", ["classifier", "judge"])
def test_augmented_images_stay_images(script, model):
    x = SyntheticCells("test").images(torch.arange(0, 1040, 65))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        augmented = getattr(script, f"augment_{model}")(x)
    assert augmented.shape == x.shape
    assert -1 <= augmented.min() < augmented.max() <= 1
    assert (augmented.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs().max() < 0.3


def test_blur_keeps_the_mean_and_spreads_a_point(script):
    x = torch.zeros(1, 3, 21, 21)
    x[:, :, 10, 10] = 1
    y = script.blur(x, 1.0)
    torch.testing.assert_close(y.sum((2, 3)), torch.ones(1, 3))
    distance = (torch.arange(21.0) - 10) ** 2
    torch.testing.assert_close((y.sum(3) * distance).sum(2), torch.ones(1, 3), rtol=0.01, atol=0)  # variance sigma^2


def test_a_tenth_of_a_folder_in_equal_shares_of_the_mechanisms_fits_the_temperature(script, tmp_path):
    data = SyntheticCells("test")
    one, other = ((data.perturbation == data.compound_id(name)).nonzero().flatten()[:21] for name in ("taxol", "PP-2"))
    rows = torch.cat([torch.stack([one, other], 1).flatten(), data.controls[:4]])  # in turn
    write_folder(tmp_path, data, rows, torch.zeros(len(rows), 3, 16, 16), train=40)
    splits = script.load_splits(script.Config(data=tmp_path), torch.Generator().manual_seed(0))
    count = {split: torch.bincount(script.moa_of(*chosen)).tolist() for split, chosen in splits.items()}
    assert count == {"train": [18, 18], "validation": [2, 2], "test": [1, 1]}
    assert len({*splits["train"][1].tolist(), *splits["validation"][1].tolist()}) == 40


def test_a_folder_that_is_too_small_is_refused(script, tmp_path):
    data = SyntheticCells("test")
    rows = torch.cat([data.treated[:11], data.controls[:2]])
    write_folder(tmp_path, data, rows, torch.zeros(13, 3, 16, 16), train=9)
    with pytest.raises(ValueError, match="no treated image for validation: need ten in the train split"):
        script.load_splits(script.Config(data=tmp_path), torch.Generator())


def test_smoke_run_writes_weights_scores_and_a_picture(script, tmp_path, capsys):
    with torch.random.fork_rng():
        script.main(replace(script.PRESETS["smoke"], output_dir=tmp_path, limit=24))
    model = MoAClassifier.from_pretrained(tmp_path / "classifier.safetensors")
    assert model.moas == SyntheticCells.moas
    training = json.loads((tmp_path / "classifier.json").read_text())["training"]
    assert f"test accuracy {training['test_accuracy']:.3f}" in capsys.readouterr().out
    assert training["test_images"] == 24
    assert (tmp_path / "classifier_confusion.png").stat().st_size > 10_000

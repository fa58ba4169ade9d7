import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from algorithms.recipes.fit.classifier_scores import (
    balanced_weights,
    calibration_error,
    compute_scores,
    confusion_matrix,
    draw_confusion,
    fit_temperature,
)
from cellenv.streams import rng_at


def test_the_temperature_is_found():
    """Labels drawn from softmax(logits / 3): T = 3, up to the noise of 8,000 draws."""
    logits = 6 * torch.randn(8_000, 5, generator=rng_at(0))
    moa = torch.multinomial((logits / 3).softmax(1), 1, generator=rng_at(1)).squeeze(1)
    assert fit_temperature(logits, moa) == pytest.approx(3, rel=0.06)


def test_calibration_and_confusion_equal_torchmetrics():
    logits = 3 * torch.randn(500, 5, generator=rng_at(0))
    moa = torch.arange(5).repeat(100)  # balanced, as torchmetrics takes images alike
    expected = multiclass_calibration_error(logits.softmax(1), moa, 5, n_bins=15)
    assert calibration_error(logits, moa) == pytest.approx(float(expected), abs=1e-6)
    assert confusion_matrix(logits, moa).equal(multiclass_confusion_matrix(logits, moa, 5))


def test_scores_by_hand():
    moa = torch.tensor([0, 0, 0, 1])
    predicted = torch.tensor([0, 0, 1, 1])
    logits = 100.0 * torch.eye(3)[predicted]  # certain
    assert compute_scores(logits, moa, ("a", "b", "c")) == {
        "test_images": 4,
        "test_accuracy": 0.75,
        "test_balanced_accuracy": 0.8333,
        "test_ece": 0.1667,  # in `a` a third is wrong, in `b` none
        "test_accuracy_per_moa": {"a": 0.667, "b": 1.0, "c": None},
    }


def test_every_mechanism_weighs_the_same():
    moa = torch.tensor([0, 0, 0, 2])
    assert balanced_weights(moa).tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    logits = 6 * torch.randn(4_000, 3, generator=rng_at(0))
    moa = torch.multinomial((logits / 3).softmax(1), 1, generator=rng_at(1)).squeeze(1)
    copies = torch.where(moa == 0, 9, 1)  # one mechanism has nine times as many images
    many = fit_temperature(logits.repeat_interleave(copies, 0), moa.repeat_interleave(copies))
    assert many == pytest.approx(fit_temperature(logits, moa), rel=0.03)


def test_the_picture_of_a_confusion_takes_mechanisms_without_images():
    assert draw_confusion(torch.tensor([[3, 1], [0, 0]]), ("a", "b")).startswith(b"\x89PNG")

"""The validation of a base: its loss, its pictures, and the networks of its distances."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from algorithms.config import DataConfig
from algorithms.recipes import base_validation
from algorithms.recipes.base import PRESETS
from algorithms.recipes.base_validation import Validation, feature_networks, plot_curves
from cellenv.generator import CellFlux, Sampling
from rewards import JudgeClassifier
from tests.algorithms.recipes.base_toys import TINY_BASE, FewCells

SMOKE = PRESETS["smoke"]


class Still(nn.Module):
    """v = 0; remembers which conditions were used."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.kept = []

    def forward(self, x_t, t, condition=None, keep=None):
        if keep is not None:
            self.kept.append(keep)
        return 0 * x_t


@pytest.fixture
def still():
    return CellFlux(Still(), replace(TINY_BASE, size=FewCells.size), Sampling(steps=1, noise_level=0.0))


@pytest.fixture
def validation(monkeypatch):
    monkeypatch.setattr(base_validation, "feature_networks", lambda config, device: {})
    pairs = replace(SMOKE.pairs, noise_level=0.0, condition_dropout=0.9, flip=0.9, dequantise=True, guidance=0.0)
    return Validation(
        replace(SMOKE, pairs=pairs, validation=replace(SMOKE.validation, pairs=64)), FewCells(), torch.device("cpu")
    )


def test_the_loss_is_that_of_plain_pairs(validation, still):
    """Without a velocity it is the mean square of x1 - x0, of images as they are stored."""
    first = validation.loss(still)
    assert first == validation.loss(still)  # the same pairs again
    assert torch.cat(still.network.kept).all()  # no condition is dropped
    pixels = FewCells().pixels.double()
    controls, treated = pixels[FewCells().perturbation < 0], pixels[FewCells().perturbation >= 0]
    expected = controls.pow(2).mean() + treated.pow(2).mean() - 2 * controls.mean(0).mul(treated.mean(0)).mean()
    assert first == pytest.approx(float(expected), rel=0.1)
    assert validation.metrics(still) == {"validation_loss": first} and validation.floor == {}


def test_the_picture_shows_controls_samples_and_real_images(validation, still, tmp_path):
    validation.draw(still, tmp_path / "samples.png")
    picture = np.asarray(Image.open(tmp_path / "samples.png"))
    assert picture.shape[0] >= 6 * 8 and picture.shape[1] >= 12 * 8  # twice three rows of twelve
    rows = [picture[4 + i * 12 : 12 + i * 12, -12 * 12 :] for i in range(6)]
    assert (rows[0] == rows[1]).all() and (rows[3] == rows[4]).all()  # without a velocity a sample is its control
    assert (rows[0] != rows[2]).any() and (rows[0] != rows[3]).any()


def test_curves_take_metrics_that_began_late():
    history = [{"step": 1, "validation_loss": 0.5}, {"step": 2, "validation_loss": 0.4, "frechet": math.pi}]
    assert plot_curves(history, {"frechet": 1.0}).startswith(b"\x89PNG")


def test_the_embedded_judge_is_for_the_embedded_world(tmp_path):
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    judge, cpu = JudgeClassifier.from_pretrained(), torch.device("cpu")
    found = feature_networks(SMOKE, cpu)
    assert found.keys() == {"judge"} and found["judge"](images).equal(judge.features(images))
    elsewhere = replace(SMOKE, data=DataConfig(path=Path("cells")))
    assert feature_networks(elsewhere, cpu) == {}
    judge.save_pretrained(tmp_path / "judge.safetensors")
    own = replace(elsewhere, validation=replace(SMOKE.validation, judge=tmp_path / "judge.safetensors"))
    assert feature_networks(own, cpu)["judge"](images).equal(judge.features(images))
    without = replace(elsewhere, validation=replace(SMOKE.validation, inception=Path("nowhere")))
    with pytest.raises(FileNotFoundError, match="no Inception weights at nowhere"):
        feature_networks(without, cpu)

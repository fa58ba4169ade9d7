"""The picture of what training changed."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from algorithms.evaluation.periodic_eval import PeriodicEval
from examples.studies import show_training
from examples.studies.show_training import PRESETS, RED, chosen_contexts, main, outlined
from rewards.segmentation.protocol import Masks
from tests.conftest import TINY


def test_a_row_for_each_kind_of_image_and_a_column_for_each_context(tmp_path):
    file = tmp_path / "new" / "picture.png"
    main(type(PRESETS["smoke"])(model="embedded", output=file, contexts=4, columns=1))
    picture = np.asarray(Image.open(file))
    assert picture.shape[0] >= 4 * 96 and 2 * 96 <= picture.shape[1] < 4 * 96


def test_columns_are_the_largest_gains_and_others_at_random():
    gain = torch.tensor([0.5, 3.0, float("nan"), -1.0, 5.0, 2.0])
    drawn = set()
    for seed in range(30):
        best, random = chosen_contexts(gain, 2, seed)
        assert best.tolist() == [4, 1] and len(set(random.tolist())) == 2
        assert torch.equal(chosen_contexts(gain, 2, seed)[1], random)
        drawn |= set(random.tolist())
    assert drawn == {0, 2, 3, 5}


def test_the_gain_is_that_of_the_trained_generator_over_the_base(save_base, tmp_path, monkeypatch):
    """Images of the trained generator get brighter from context to context, those of the base are all grey."""
    gains = []

    def sample(self, generator):
        level = torch.arange(4) / 4 if generator.config == TINY else torch.zeros(4)
        return level[:, None, None, None].expand(4, 3, 96, 96)

    def choose(gain, *given):
        gains.append(gain.tolist())
        return chosen_contexts(gain, *given)

    def evaluate(self, images):
        return SimpleNamespace(of={"total": images.mean((1, 2, 3)).numpy()}.get)

    monkeypatch.setattr(PeriodicEval, "sample", sample)
    monkeypatch.setattr(PeriodicEval, "evaluate", evaluate)
    monkeypatch.setattr(show_training, "chosen_contexts", choose)
    file = tmp_path / "picture.png"
    main(type(PRESETS["smoke"])(model=str(save_base()), output=file, contexts=4, columns=1))
    assert gains == [[0, 0.25, 0.5, 0.75]]


def test_nuclear_pixels_outside_cells_are_red():
    nuclei, cells = torch.zeros(2, 1, 8, 8, dtype=torch.int32)
    nuclei[0, 2:4, 2:6], cells[0, 2:4, 4:8] = 1, 1
    picture = outlined(torch.zeros(1, 3, 8, 8), lambda images: Masks(nuclei, cells))
    red = (picture == RED).all(-1)[0]
    assert red[2:4, 2:4].all() and red.sum() == 4

"""A baseline's samples become a folder that the evaluation reads."""

from dataclasses import replace

import pytest
import torch

from algorithms.evaluation.generate import PRESETS, main
from algorithms.evaluation.held_out import held_out
from algorithms.evaluation.image_folder import ImageFolder
from cellenv.data.synthetic import SyntheticCells
from cellenv.networks import UNetConfig
from examples.baselines.loading import load_generator
from examples.baselines.phendiff import PhenDiff


@pytest.mark.usefixtures("seeded")
def test_samples_of_a_baseline_are_a_row_of_the_evaluation(tmp_path):
    sizes = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
    PhenDiff(sizes, steps=1).save_pretrained(tmp_path / "model")
    config = replace(PRESETS["smoke"], generator=str(tmp_path / "model"), output_dir=tmp_path / "images", contexts=4)
    main(config, load=load_generator)
    data = SyntheticCells("test")
    contexts, _, _ = held_out(data, 4, config.seed)
    images = ImageFolder.read(tmp_path / "images", data).match_contexts(contexts)
    x1, _ = load_generator(tmp_path / "model").sample(contexts["x0"], contexts["condition"])
    assert images.shape == (4, config.group_size, *data.size)
    torch.testing.assert_close(images[:, 0], x1, rtol=0, atol=1 / 255 + 1e-6)  # stored as bytes

from dataclasses import replace

import numpy as np
import pytest
import torch

from algorithms import estimate
from algorithms.config import DataConfig
from algorithms.evaluation import generate
from algorithms.evaluation.comparison import held_out_cells
from algorithms.evaluation.generate import PRESETS
from algorithms.evaluation.held_out import held_out
from algorithms.evaluation.image_folder import ImageFolder
from cellenv.env import repeat_groups
from cellenv.generator import CellFlux
from cellenv.networks import UNetConfig
from tests.algorithms.evaluation.evaluation_toys import generator


@pytest.fixture
def config(save_base, tmp_path):
    folder = str(save_base())
    return replace(PRESETS["smoke"], generator=folder, output_dir=tmp_path / "images", contexts=3, group_size=2, seed=5)


def test_the_folder_holds_samples_of_the_contexts_of_an_evaluation(config):
    generate.main(config)
    cells, n = held_out_cells(DataConfig(), 3)
    contexts, _, _ = held_out(cells, n, seed=5)
    images = ImageFolder.read(config.output_dir, cells).match_contexts(contexts)
    assert images.shape == (3, 2, 3, 96, 96)
    td = repeat_groups(contexts, 2)  # with noise of its own for each sample
    samples = CellFlux.from_pretrained(config.generator).sample(td["x0"], td["condition"], td["seed"])[0]
    torch.testing.assert_close(images.flatten(0, 1), samples, rtol=0, atol=1 / 255)  # stored as bytes
    assert not images[:, 0].equal(images[:, 1])


def test_the_batch_size_does_not_change_the_images(config, tmp_path):
    generate.main(config)
    generate.main(replace(config, batch_size=4, output_dir=tmp_path / "other"))
    for file in config.output_dir.glob("*.npy"):
        np.testing.assert_allclose(np.load(file), np.load(tmp_path / "other" / file.name), atol=1)


def test_another_loader_serves_models_of_another_kind(config, data):
    """Without a generator of that name on the disk."""
    names = []
    load = lambda name: names.append(name) or generator(data, 0.0)  # noqa: E731 - x1 = x0 + noise
    generate.main(replace(config, generator="mine"), load)
    assert names == ["mine"] and len(list(config.output_dir.glob("*.npy"))) == 6


def test_what_cannot_be_generated_is_refused_before_sampling(config, data):
    config.output_dir.mkdir()
    (config.output_dir / "index.csv").touch()
    with pytest.raises(FileExistsError, match="holds images already"):
        generate.main(config)
    other = generator(data, 0.0)
    other.config = UNetConfig(size=(3, 8, 8), condition_dim=5)
    with pytest.raises(ValueError, match=r"the generator draws \(3, 8, 8\) images"):
        generate.main(replace(config, output_dir=config.output_dir / "new"), lambda name: other)


def test_the_estimate_scales_with_the_images(config, monkeypatch):
    monkeypatch.setattr(estimate, "seconds_of", lambda work: 1.0)  # of a batch
    config = replace(config, contexts=4, batch_size=4)
    once = generate.estimate(config)
    assert (once.nfe, once.seconds) == (4 * 2 * 2, 2)  # contexts, samples, solver steps
    assert generate.estimate(replace(config, contexts=8))[:2] == (2 * once.nfe, 4)
    assert generate.estimate(replace(config, group_size=4))[:2] == (2 * once.nfe, 4)

from dataclasses import replace

import pytest
import torch

from algorithms.config import DataConfig
from algorithms.recipes.fit import classifier_training
from algorithms.recipes.fit.classifier import ClassifierConfig
from algorithms.recipes.fit.classifier_training import (
    draw_balanced,
    estimate_fit,
    initial_classifier,
    load_splits,
    moa_of,
    train,
)
from cellenv.streams import rng_at
from tests.folder_toys import write_folder


def test_a_tenth_of_a_folder_in_equal_shares_of_the_mechanisms_fits_the_temperature(data, tmp_path):
    one, other = ((data.perturbation == data.compound_id(name)).nonzero().flatten()[:21] for name in ("taxol", "PP-2"))
    rows = torch.cat([torch.stack([one, other], 1).flatten(), data.controls[:4]])  # in turn
    write_folder(tmp_path, data, rows, torch.zeros(len(rows), 3, 16, 16), train=40)
    splits = load_splits(ClassifierConfig(data=DataConfig(path=tmp_path)))
    count = {split: torch.bincount(moa_of(*chosen)).tolist() for split, chosen in splits.items()}
    assert count == {"train": [18, 18], "validation": [2, 2], "test": [1, 1]}
    assert len({*splits["train"][1].tolist(), *splits["validation"][1].tolist()}) == 40


def test_a_folder_that_is_too_small_is_refused(data, tmp_path):
    rows = torch.cat([data.treated[:11], data.controls[:2]])
    write_folder(tmp_path, data, rows, torch.zeros(13, 3, 16, 16), train=9)
    with pytest.raises(ValueError, match="no treated image for validation: need ten in the train split"):
        load_splits(ClassifierConfig(data=DataConfig(path=tmp_path)))


def test_mechanisms_are_drawn_equally_often():
    rows, moa = torch.arange(20), torch.tensor([0] * 2 + [3] * 18)
    drawn = draw_balanced(rows, moa, rng_at(0))
    assert len(drawn) == 20 and torch.bincount(moa[drawn]).tolist() == [10, 0, 0, 10]
    assert torch.bincount(drawn)[:2].tolist() == [5, 5]  # the few in turn
    assert len(drawn[moa[drawn] == 3].unique()) == 10  # the many at most once
    assert not drawn.equal(draw_balanced(rows, moa, rng_at(1)))


def test_the_weights_depend_on_the_seed_alone(data):
    """Not on the global random stream, which stays as it is."""
    config = ClassifierConfig(epochs=1, batch_size=4)
    split = data, data.treated[:8]
    trained = []
    for seed in (0, 0, 1):
        torch.rand(())
        state = torch.get_rng_state()
        model, rng = initial_classifier(replace(config, seed=seed), data)
        train(model, split, config, rng)
        assert torch.get_rng_state().equal(state)
        trained.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert trained[0].equal(trained[1]) and not trained[0].equal(trained[2])


def test_training_lowers_the_loss(data):
    """Two mechanisms that differ much, in ten steps; measured without augmentation."""
    rows = torch.cat([(moa_of(data, data.treated) == m).nonzero().flatten()[:8] for m in (0, 5)])
    split = data, data.treated[rows]
    config = ClassifierConfig(epochs=5, batch_size=8)
    model, rng = initial_classifier(config, data)
    losses = []
    for _ in range(2):
        logits, moa = classifier_training.predict(model.eval(), split)
        losses.append(float(torch.nn.functional.cross_entropy(logits, moa)))
        train(model, split, config, rng)
    assert losses[1] < 0.5 * losses[0]


def test_the_estimate_scales_with_steps(monkeypatch):
    monkeypatch.setattr(classifier_training, "seconds_of", lambda work: 1.0)  # of a step
    config = ClassifierConfig(epochs=2, batch_size=8, limit=20)  # three steps an epoch
    assert estimate_fit(config)[:2] == (0, 6)
    assert estimate_fit(replace(config, limit=40)).seconds == 10
    assert estimate_fit(replace(config, epochs=4)).seconds == 12

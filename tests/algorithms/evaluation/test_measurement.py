"""Every image is measured in its own context, in batches of any size, and a row is made image by image."""

from dataclasses import replace

import torch
from tensordict import TensorDict

from algorithms.evaluation.measurement import Row, measure_references, measure_row
from tests.algorithms.evaluation.metrics_toys import MOAS, TOY, G, N, brightness, toy_contexts, toy_images


def test_each_image_is_scored_in_its_own_context():
    images, contexts = toy_images(0.6, noise=0.0), toy_contexts()
    values = measure_row(Row.of(images), contexts, TOY, batch_size=7)  # 7 divides neither N nor G
    assert values["right"].all() and values["interval", "bright"].allclose(torch.tensor(0.6))
    others = TensorDict({"moa": (contexts["moa"] + 1) % MOAS}, batch_size=[N])
    shuffled = measure_row(Row.of(images), others, TOY)
    assert not shuffled["right"].any() and shuffled["interval", "bright"].allclose(torch.tensor(0.0))
    whole = measure_row(Row.of(images), contexts, TOY, batch_size=1000)
    torch.testing.assert_close(values["features", "judge"], whole["features", "judge"])


def test_a_row_is_made_in_the_order_of_contexts_and_samples():
    images = toy_images(0.3)
    row = Row.of(images)
    assert row.group_size == G and torch.equal(row.all_images(N, batch_size=7), images)
    assert torch.equal(row.images_at(torch.tensor([G + 2])), images[1, 2:3])


def test_reference_images_have_features_and_measures():
    real = toy_images(0.5, size=1)
    values = measure_references(Row.of(real), N, TOY, batch_size=7)
    torch.testing.assert_close(values["features", "judge"], brightness(real.squeeze(1)))
    torch.testing.assert_close(values["measure", "size"], brightness(real.squeeze(1)).sum(1))


def test_the_classifier_sees_each_batch_once_and_without_one_nothing_is_right():
    seen = []
    counting = replace(TOY, classify=lambda images: seen.append(len(images)) or TOY.classify(images))
    values = measure_row(Row.of(toy_images(0.5, size=1)), toy_contexts(), counting, batch_size=N)
    assert seen == [N] and {"right", "features"} <= set(values.keys())
    measure_references(Row.of(toy_images(0.5, size=1)), N, counting, batch_size=N)
    assert seen == [N, N]
    without = measure_row(Row.of(toy_images(0.5, size=1)), toy_contexts(), replace(TOY, classify=None))
    assert "right" not in without.keys() and ("features", "judge") not in without.keys(include_nested=True)

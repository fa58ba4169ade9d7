"""The embedded world loads, and its generator fits its data."""

import torch

from cellenv.embedded import load_embedded


def test_generator_and_data_fit():
    generator, data = load_embedded("test")
    contexts = data.contexts(data.treated[:2], torch.Generator().manual_seed(0))
    generator.steps = 1
    x1, source = generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])
    assert x1.shape == (2, *data.size) and not torch.equal(source, contexts["x0"])
    assert generator.config.condition_dim == data.conditions.shape[1]

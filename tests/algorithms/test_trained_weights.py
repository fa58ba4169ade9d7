"""Weights above the first level that trains are frozen, their adapters too."""

import pytest
from torch import nn

from algorithms.trained_weights import choose_trained_weights
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at

CONFIG = UNetConfig(
    size=(3, 16, 16), condition_dim=5, width=8, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0
)


def trained(from_level, lora_rank=0):
    network = UNet(CONFIG)
    choose_trained_weights(network, from_level=from_level, lora_rank=lora_rank, rng=rng_at(0))
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_level_0_trains_everything():
    assert trained(0) == {name for name, _ in UNet(CONFIG).named_parameters()}


def test_layers_of_full_resolution_are_frozen_and_embeddings_train():
    frozen = trained(0) - trained(1)
    assert {name.split(".")[0] for name in frozen} == {"input_blocks", "output_blocks", "out"}
    assert {name.split(".")[1] for name in frozen if name.startswith("input")} == {"0", "1"}  # a convolution, a block
    assert {name.split(".")[1] for name in frozen if name.startswith("output")} == {"2", "3"}
    assert {name.split(".")[0] for name in trained(1)} >= {"time_embed", "mol_embed_transform", "middle_block"}


def test_a_level_that_the_network_lacks_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        trained(2)


def test_levels_need_a_u_net():
    with pytest.raises(ValueError, match="train_from_level 1 needs a U-Net, got Linear"):
        choose_trained_weights(nn.Linear(2, 2), from_level=1, lora_rank=0, rng=rng_at(0))


@pytest.mark.slow  # importing peft
def test_adapters_of_frozen_layers_are_frozen():
    assert trained(1, lora_rank=2) == {
        name
        for name in trained(0, lora_rank=2)
        if not name.startswith(("input_blocks.0", "input_blocks.1", "output_blocks.2", "output_blocks.3", "out."))
    }

"""Which weights of a U-Net post-training moves."""

import torch
from torch import nn

from algorithms.lora import add_lora
from cellenv.networks import UNet


def choose_trained_weights(network: nn.Module, *, from_level: int, lora_rank: int, rng: torch.Generator) -> None:
    """Freeze all weights but those that train, in place.

    The layers at full resolution paint texture. Frozen, they need no gradient and no moments of the optimizer, and the
    generator learns more of the mechanism and less of the outlines (docs/efficiency.md).

    from_level: the first level of the U-Net that trains (`UNet.level`), 0 for all of them; the embeddings of time and
        condition always train.
    lora_rank: of adapters with alpha = 2 rank, drawn from rng, that train in place of the weights; 0 adds none.

    Raises:
        ValueError: the network has no such level, or is no U-Net and from_level is not 0.
    """
    if lora_rank:
        add_lora(network, rng, rank=lora_rank, alpha=2.0 * lora_rank)
    if from_level == 0:
        return
    if not isinstance(network, UNet):
        raise ValueError(f"train_from_level {from_level} needs a U-Net, got {type(network).__name__}: use 0")
    network.level(from_level)  # exists
    for level in range(from_level):
        for layer in network.level(level):
            layer.requires_grad_(False)

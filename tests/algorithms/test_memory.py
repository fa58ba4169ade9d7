"""Bytes of a training by what takes them, counted by hand."""

import torch
from torch import nn

from algorithms.ema import EMA
from algorithms.memory import MIB, TrainingMemory, saved_activations, training_memory
from tests.algorithms.nft_toys import three_copies
from tests.algorithms.sde_toys import tiny_unet


def test_states_are_those_of_the_objects():
    network = tiny_unet()
    _, old, ref = three_copies(network)
    numbers = sum(parameter.numel() for parameter in network.parameters())
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    memory = training_memory(network, old, [ref], ema=EMA(network), optimizer=optimizer.state_dict(), activations=7)
    whole = ("theta", "old", "reference", "average (EMA)", "gradients")
    assert {name: memory.states[name] for name in whole} == dict.fromkeys(whole, 4 * numbers)
    steps = 4 * len([*network.parameters()])  # each counts its steps, in float32
    assert memory.states["optimizer"] == 8 * numbers + steps
    layers = [*network.input_blocks, network.middle_block, *network.output_blocks]
    assert memory.layer == 4 * max(sum(p.numel() for p in layer.parameters()) for layer in layers)


def test_shards_divide_states_and_not_what_is_at_work():
    memory = TrainingMemory(states={"theta": 8 * MIB, "old": 4 * MIB}, layer=MIB, activations=6 * MIB)
    assert memory.per_process(1)["sum"] == 18 * MIB
    assert memory.per_process(4) == {
        "theta": 2 * MIB,
        "old": MIB,
        "layers at work": 3 * MIB,
        "activations": 6 * MIB,
        "sum": 12 * MIB,
    }
    assert str(memory).splitlines()[1].split() == ["theta", "8.0", "4.0", "1.0", "0.1"]


def test_activations_are_what_the_largest_pass_keeps_once():
    """Of a linear layer and a sigmoid, the input and the output, but no weights, and nothing without a gradient."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid())
    with saved_activations(model) as saved:
        for rows in (7, 2):
            model(torch.zeros(rows, 3)).sum().backward()
        with torch.no_grad():
            model(torch.zeros(100, 3))
    assert saved.most == 4 * (7 * 3 + 7 * 5)


def test_what_other_modules_keep_between_its_passes_is_not_counted():
    """As a critic does, which learns in the same iteration."""
    model, critic = nn.Linear(3, 5), nn.Linear(3, 5)
    with saved_activations(model) as saved:
        for module in (critic, model, critic, critic):
            module(torch.zeros(7, 3)).sum().backward()
    assert saved.most == 4 * 7 * 3

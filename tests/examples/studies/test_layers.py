"""Weights of some layers from a trained generator, of all others from the base."""

import torch

from cellenv.networks import UNet, UNetConfig
from examples.studies.layers import PRESETS, main, mean_weights, parts_of, swapped

CONFIG = UNetConfig(
    size=(3, 16, 16), condition_dim=5, width=8, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0
)


def test_each_weight_is_of_one_part_and_is_swapped_with_it():
    network = UNet(CONFIG)
    parts = parts_of(network)
    assert list(parts) == ["level 0", "level 1", "embeddings"]
    assert sum(len(names) for names in parts.values()) == len(list(network.parameters()))
    base = {name: torch.zeros(1) for name in network.state_dict()}
    trained = {name: torch.ones(1) for name in base}
    states = {name: {key for key, value in state.items() if value} for name, state in swapped(base, trained, parts)}
    assert states["nothing (base)"] == set() and states["everything"] == set(base)
    for part, names in parts.items():
        assert states[f"{part} alone"] == names and states[f"all but {part}"] == set(base) - names


def test_the_mean_of_equal_models_is_the_model():
    one, two = mean_weights(["embedded"]), mean_weights(["embedded", "embedded"])
    assert one and all(torch.equal(one[name], two[name]) for name in one)


def test_the_table_has_the_base_whose_layers_change_nothing(capsys):
    main(PRESETS["smoke"])
    header, _, first, *others = capsys.readouterr().out.splitlines()
    assert len(others) == 1 + 2 * 4 and first.startswith("| nothing (base) |")
    assert {line.count("|") for line in others} == {header.count("|")}
    assert {line.split(" | ", 1)[1] for line in others} == {first.split(" | ", 1)[1]}

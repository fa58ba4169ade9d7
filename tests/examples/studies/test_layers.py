"""Weights of some layers from a trained generator, of all others from the base."""

from types import SimpleNamespace

import pytest
import torch

from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNet, UNetConfig
from examples.studies.layers import COLUMNS, FIGURES, PRESETS, LayersConfig, main, mean_weights, parts_of, swapped
from tests.conftest import save_tiny

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


def save_moved(model, by, folder):
    """Save a generator whose weights are all larger by this much."""
    generator = CellFlux.from_pretrained(model)
    with torch.no_grad():
        for weight in generator.network.parameters():
            weight += by
    generator.save_pretrained(folder)
    return str(folder)


def test_the_mean_of_two_models_is_midway_between_them(tmp_path):
    save_tiny(tmp_path / "one", Sampling())
    models = [str(tmp_path / "one"), save_moved(tmp_path / "one", 0.5, tmp_path / "two")]
    one = mean_weights(models[:1])
    for name, weight in mean_weights(models).items():
        torch.testing.assert_close(weight, one[name] + 0.25)


def test_the_mean_of_equal_models_is_the_model():
    one, two = mean_weights(["embedded"]), mean_weights(["embedded", "embedded"])
    assert one and all(torch.equal(one[name], two[name]) for name in one)


def test_the_table_has_the_base_whose_layers_change_nothing(capsys):
    main(PRESETS["smoke"])
    header, _, first, *others = capsys.readouterr().out.splitlines()
    assert len(others) == 1 + 2 * 4 and first.startswith("| nothing (base) |")
    assert {line.count("|") for line in others} == {header.count("|")}
    assert {line.split(" | ", 1)[1] for line in others} == {first.split(" | ", 1)[1]}


def test_each_row_is_of_a_network_with_its_weights(tmp_path, capsys, monkeypatch):
    """Training adds 1 to all weights; the figures are 1 and what the first weight of each part has gained."""

    def evaluate(generator):
        weights = generator.network.state_dict()
        firsts = [min(names) for names in parts_of(generator.network).values()]
        moved = sum(float(weights[name].flatten()[0] - base[name].flatten()[0]) for name in firsts)
        return SimpleNamespace(means=lambda: dict.fromkeys((*COLUMNS, *FIGURES), 1 + moved))

    base = CellFlux.from_pretrained("embedded").network.state_dict()
    monkeypatch.setattr("examples.studies.layers.PeriodicEval.create", lambda *_, **__: evaluate)
    main(LayersConfig(models=(save_moved("embedded", 1.0, tmp_path / "trained"),)))
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    total = {row[0].removeprefix("| "): float(row[1]) for row in rows}
    parts = len(rows) // 2 - 1
    assert total.pop("nothing (base)") == 1 and total.pop("everything") == pytest.approx(1 + parts)
    for name, value in total.items():
        assert value == pytest.approx(2 if name.endswith("alone") else parts), name

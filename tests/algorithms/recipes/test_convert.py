import hashlib
import json
from typing import get_args, get_type_hints

import pytest
import torch

from algorithms.command_line import parse
from algorithms.recipes import convert
from algorithms.recipes.convert import ConvertConfig
from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS, UNetConfig
from tests.cellenv.published_toys import contents, published_shapes, random_weights, with_ema

SMALL = UNetConfig(size=(3, 8, 8), condition_dim=5, width=64, blocks=1)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A file in the published layout, and its raw and averaged weights; its network is a preset."""
    monkeypatch.setitem(PRESETS, "cellflux-small", SMALL)
    shapes = published_shapes(channels=3, condition=5, width=64, blocks=1)
    raw, means = random_weights(shapes, 0), random_weights(shapes, 1)
    torch.save(contents(with_ema(raw, means), [f"model.{name}" for name in raw]), tmp_path / "cellflux.pth")
    return tmp_path / "cellflux.pth", {"raw": raw, "ema": means}


@pytest.mark.parametrize("kind", ["ema", "raw"])
def test_a_checkpoint_becomes_a_folder_that_names_its_source(checkpoint, tmp_path, capsys, kind):
    file, weights = checkpoint
    convert.main(ConvertConfig(source=file, output_dir=tmp_path / "out", weights=kind))
    generator = CellFlux.from_pretrained(tmp_path / "out")
    assert all(torch.equal(value, weights[kind][name]) for name, value in generator.network.state_dict().items())
    assert generator.config == SMALL and generator.sampling == SAMPLINGS["cellflux"]
    assert json.loads((tmp_path / "out/config.json").read_text())["metadata"] == {
        "source": "cellflux.pth",
        "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "epoch": 99,
        "weights": kind,
    }
    printed = capsys.readouterr().out
    assert "cellflux-small" in printed and f"{kind} weights of epoch 99" in printed


def test_the_network_may_be_given_and_is_one_of_the_presets(checkpoint, tmp_path):
    names = set(get_args(get_args(get_type_hints(ConvertConfig)["network"])[0]))
    assert names == {name for name in PRESETS if name.startswith("cellflux-")} - {"cellflux-small"}
    with pytest.raises(ValueError, match=r"cellflux\.pth: need the 392 weights"):
        convert.main(ConvertConfig(source=checkpoint[0], output_dir=tmp_path / "out", network="cellflux-jump"))
    assert not (tmp_path / "out").exists()


def test_the_command_line_takes_two_paths():
    args = ["a.pth", "b", "--weights", "raw", "--network", "cellflux-jump"]
    config = parse(convert.PRESETS, None, args).config
    assert (str(config.source), str(config.output_dir)) == ("a.pth", "b")
    assert (config.weights, config.network) == ("raw", "cellflux-jump")


def test_the_estimate_scales_with_the_file(tmp_path):
    file = tmp_path / "cellflux.pth"
    file.write_bytes(bytes(1000))
    small = convert.estimate(ConvertConfig(source=file))
    file.write_bytes(bytes(2000))
    large = convert.estimate(ConvertConfig(source=file))
    assert (large.nfe, large.seconds, large.memory) == (0, 2 * small.seconds, 2 * small.memory)
    assert small.memory == 2000

import hashlib
import json
import sys
from typing import get_args, get_type_hints

import pytest
import torch

from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS, UNetConfig

SMALL = UNetConfig(size=(3, 8, 8), condition_dim=5, width=64, blocks=1)


@pytest.fixture
def script(monkeypatch, request):
    for folder in ("examples", "tests/cellenv"):
        monkeypatch.syspath_prepend(request.config.rootpath / folder)
    import convert_cellflux

    monkeypatch.setitem(PRESETS, "cellflux-small", SMALL)
    return convert_cellflux


@pytest.fixture
def checkpoint(script, tmp_path):
    """A file in the published layout; its raw weights, their means."""
    from published_toys import contents, published_shapes, random_weights, with_ema

    shapes = published_shapes(channels=3, condition=5, width=64, blocks=1)
    raw, means = random_weights(shapes, 0), random_weights(shapes, 1)
    torch.save(contents(with_ema(raw, means), [f"model.{name}" for name in raw]), tmp_path / "cellflux.pth")
    return tmp_path / "cellflux.pth", {"raw": raw, "ema": means}


@pytest.mark.parametrize("kind", ["ema", "raw"])
def test_a_checkpoint_becomes_a_folder_that_says_where_it_comes_from(script, checkpoint, tmp_path, capsys, kind):
    file, weights = checkpoint
    script.main(script.Config(source=file, output_dir=tmp_path / "out", weights=kind))
    generator = CellFlux.from_pretrained(tmp_path / "out")
    assert all(torch.equal(value, weights[kind][name]) for name, value in generator.network.state_dict().items())
    assert generator.config == SMALL and generator.sampling == SAMPLINGS["cellflux"]
    assert json.loads((tmp_path / "out/config.json").read_text())["metadata"] == {
        "source": "cellflux.pth",
        "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "epoch": 99,
        "weights": kind,
    }
    said = capsys.readouterr().out
    assert "cellflux-small" in said and f"{kind} weights of epoch 99" in said


def test_the_network_can_be_said_and_is_one_of_the_presets(script, checkpoint, tmp_path):
    named = {name for name in get_args(get_args(get_type_hints(script.Config)["network"])[0])}
    assert named == {name for name in PRESETS if name.startswith("cellflux-")} - {"cellflux-small"}
    with pytest.raises(ValueError, match=r"cellflux\.pth: need the 392 weights"):
        script.main(script.Config(source=checkpoint[0], output_dir=tmp_path / "out", network="cellflux-jump"))
    assert not (tmp_path / "out").exists()


def test_the_command_line_takes_two_paths(script):
    config = script.tyro.cli(script.Config, args=["a.pth", "b", "--weights", "raw", "--network", "cellflux-jump"])
    assert (str(config.source), str(config.output_dir)) == ("a.pth", "b")
    assert (config.weights, config.network) == ("raw", "cellflux-jump")
    assert "torch" in sys.modules  # the module imports it, after the command line: see test_help

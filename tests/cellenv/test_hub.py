"""The Hub's functions are stubs with the signatures of the real ones; no test reaches a network."""

import shutil
import sys
from pathlib import Path
from unittest.mock import create_autospec

import huggingface_hub
import pytest
import torch

from cellenv.generator import CellFlux, Sampling
from cellenv.hub import is_address
from cellenv.networks import UNet, UNetConfig

CONFIG = UNetConfig(size=(1, 4, 4), condition_dim=2, width=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0)


@pytest.fixture
def repositories(tmp_path, monkeypatch):
    """A hub in a folder; the calls that it got: {function: arguments}."""
    calls = {}

    def create(repo_id, **options):
        calls["create"] = options
        (tmp_path / repo_id).mkdir(parents=True, exist_ok=options["exist_ok"])
        return f"https://huggingface.co/{repo_id}"

    def upload(*, repo_id, folder_path, allow_patterns):
        for name in allow_patterns:
            shutil.copy(Path(folder_path) / name, tmp_path / repo_id / name)

    def fetch(repo_id, *, allow_patterns):
        calls["fetch"] = allow_patterns
        if not (tmp_path / repo_id).is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError("404 Client Error")
        return str(tmp_path / repo_id)

    for name, stub in (("create_repo", create), ("upload_folder", upload), ("snapshot_download", fetch)):
        spec = create_autospec(getattr(huggingface_hub, name), side_effect=stub)
        monkeypatch.setattr(huggingface_hub, name, spec)
    return calls


@pytest.fixture
def generator():
    network = UNet(CONFIG)
    torch.nn.init.normal_(network.out[2].weight, generator=torch.Generator().manual_seed(0))
    return CellFlux(network, CONFIG, Sampling(steps=3, solver="heun")).eval()


def test_a_pushed_generator_is_loaded_again(generator, repositories, tmp_path):
    assert generator.push_to_hub("lab/cells", {"seed": 1}, private=True) == "https://huggingface.co/lab/cells"
    assert repositories["create"] == {"private": True, "exist_ok": True}
    files = sorted(path.name for path in (tmp_path / "lab/cells").iterdir())
    assert files == ["README.md", "config.json", "model.safetensors"]
    again = CellFlux.from_pretrained("hf:lab/cells")
    assert sorted(repositories["fetch"]) == ["config.json", "model.safetensors"]
    assert again.sampling == generator.sampling and again.metadata == {"seed": 1}
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in generator.state_dict().items())


def test_a_second_push_replaces_the_first(generator, repositories):
    generator.push_to_hub("lab/cells")
    generator.steps = 7
    generator.push_to_hub("lab/cells")
    assert CellFlux.from_pretrained("hf:lab/cells").steps == 7


def test_a_folder_comes_before_the_hub(generator, repositories, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator.save_pretrained("runs/model")
    CellFlux.from_pretrained("runs/model")
    CellFlux.from_pretrained("embedded")
    assert not repositories


def test_an_unknown_repository_gives_the_error_of_the_hub(repositories):
    with pytest.raises(FileNotFoundError, match=r"no hf:lab/none came.*404 Client Error.*hf auth login"):
        CellFlux.from_pretrained("hf:lab/none")


@pytest.mark.parametrize(
    "name", [Path("lab/cells"), "lab/cells", "runs/nft/model", "./cells", "../cells", "cells", "/lab/cells", "a/b c"]
)
def test_a_mistyped_path_does_not_ask_the_network(repositories, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_address(name)
    with pytest.raises(FileNotFoundError, match=r"save_pretrained.*\.pth.*embedded.*hf:owner/name"):
        CellFlux.from_pretrained(name)
    assert not repositories


def test_without_huggingface_hub_the_error_says_how_to_get_it(generator, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"to fetch hf:lab/cells: pip install 'cellfluxrl\[hub\]'"):
        CellFlux.from_pretrained("hf:lab/cells")
    with pytest.raises(ImportError, match=r"push lab/cells.*pip install 'cellfluxrl\[hub\]'"):
        generator.push_to_hub("lab/cells")


def test_a_name_without_owner_is_refused(generator, repositories):
    for address in ("cells", "hf:a/b/c", "hf:"):
        with pytest.raises(ValueError, match=f"'hf:owner/name', got '{address}'"):
            generator.push_to_hub(address)
    with pytest.raises(ValueError, match="'hf:owner/name', got 'hf:cells'"):
        CellFlux.from_pretrained("hf:cells")
    assert not repositories


def test_what_is_known_of_a_generator_goes_with_it(generator, repositories, tmp_path):
    generator.save_pretrained(tmp_path / "run", {"license": "mit", "data": "cells of ours"})
    CellFlux.from_pretrained(tmp_path / "run").push_to_hub("lab/cells")
    card = (tmp_path / "lab/cells/README.md").read_text()
    assert card == (tmp_path / "run/README.md").read_text()
    assert card.startswith('---\nlicense: "mit"\n') and "| data | cells of ours |" in card


OTHER_LAYOUTS = {  # files of a folder, and the command that is named for it
    "nothing": ([], "convert FILE.pth FOLDER"),
    "published": (["checkpoint-99.pth"], r"convert checkpoint-99\.pth FOLDER"),
    "diffusers": (["model_index.json", "unet/config.json"], "convert FILE.pth FOLDER"),
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
@pytest.mark.parametrize("name", ["hf:lab/cells", "lab/cells"])
def test_another_layout_names_convert(repositories, tmp_path, monkeypatch, layout, name):
    monkeypatch.chdir(tmp_path)
    files, command = OTHER_LAYOUTS[layout]
    for file in ["lab/cells/notes.txt", *(f"lab/cells/{file}" for file in files)]:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    with pytest.raises(FileNotFoundError, match=f"^{name} has no model.safetensors and no config.json.*{command}"):
        CellFlux.from_pretrained(name)


def test_files_of_these_names_by_others_name_convert(generator, tmp_path):
    generator.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unet"}')
    with pytest.raises(ValueError, match=r"config\.json has no 'sha256'.*cellfluxrl convert"):
        CellFlux.from_pretrained(tmp_path)

import json
import os
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from cellenv.weights_io import (
    atomic_replace,
    digest,
    load_model,
    load_weights,
    save_weights,
    unshared,
    write_atomically,
)


@pytest.fixture(params=["folder", "net.safetensors"])
def path(request, tmp_path):
    return tmp_path / "deep" / request.param


Anything = dict[str, Any]
STATE = {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(3)}  # a transposed view, and an integer


def test_round_trip_keeps_values_types_and_config(path):
    save_weights(path, STATE, {"width": 3, "names": ["a/b"]})
    config, state = load_weights(path, Anything)
    assert config == {"width": 3, "names": ["a/b"]}
    assert set(state) == {"n", "w"}
    assert torch.equal(state["w"], STATE["w"])
    assert state["n"].dtype == torch.int64


def test_no_temporary_file_is_left(path):
    save_weights(path, STATE, {})
    save_weights(path, STATE, {})
    folder = path if path.is_dir() else path.parent
    assert len(list(folder.iterdir())) == 2


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"old")

    def killed(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(OSError, match=f"{file} cannot be written: disk full"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_hosts_that_share_a_disk_write_to_files_of_their_own(tmp_path, monkeypatch):
    """Also if their processes have the same number."""
    names = set()
    for host in ("a.cluster", "b.cluster"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        with atomic_replace(tmp_path / "images.npy") as temporary:
            names.add(temporary.name)
    assert len(names) == 2


def test_missing_files_are_named(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="safetensors"):
        load_weights(path, Anything)


@pytest.mark.parametrize("position", [3, -1])
def test_a_flipped_byte_is_found(tmp_path, position):
    save_weights(tmp_path, STATE, {})
    file = tmp_path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_weights(tmp_path, Anything)


def test_halves_of_two_saves_do_not_pair(tmp_path):
    save_weights(tmp_path / "a", STATE, {})
    save_weights(tmp_path / "b", {"w": torch.zeros(3)}, {})
    (tmp_path / "b/model.safetensors").replace(tmp_path / "a/model.safetensors")
    with pytest.raises(ValueError, match="another save"):
        load_weights(tmp_path / "a", Anything)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3", "[" * 200_000, '{"sha256": 1}'])
def test_damaged_config_is_named(tmp_path, text):
    save_weights(tmp_path, STATE, {})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json(: Invalid JSON| has no 'sha256'|: Input should be)"):
        load_weights(tmp_path, Anything)


@pytest.mark.parametrize("dump", [pickle.dumps, None])
def test_pickles_are_refused_unread(tmp_path, dump):
    save_weights(tmp_path, STATE, {})
    file = tmp_path / "model.safetensors"
    if dump:
        file.write_bytes(dump(STATE))
    else:
        torch.save(STATE, file)
    with pytest.raises(ValueError, match="run code"):
        load_weights(tmp_path, Anything)
    with pytest.raises(ValueError, match="run code"):
        load_weights("weights.pth", Anything)


def test_nan_config_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_weights(tmp_path / "a", STATE, {"accuracy": float("nan")})
    assert not (tmp_path / "a").exists()


def test_config_is_readable(tmp_path):
    save_weights(tmp_path / "net.safetensors", STATE, {"width": 3})
    assert json.loads((tmp_path / "net.json").read_text())["width"] == 3


def test_digest_names_the_weights(path):
    save_weights(path, STATE, {"note": "a"})
    first = digest(path)
    save_weights(path, STATE, {"note": "b"})
    assert digest(path) == first
    save_weights(path, STATE | {"n": torch.tensor(4)}, {"note": "a"})
    assert digest(path) != first


@dataclass(frozen=True, kw_only=True)
class Width:
    width: int = 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"width": "3"}, "width: .*integer, got|width: .*integer"),
        ({"width": True}, "width: "),
        ({"depth": 3}, "depth: Unexp"),
    ],
)
def test_a_config_of_another_schema_is_named(tmp_path, config, message):
    save_weights(tmp_path, STATE, config)
    with pytest.raises(ValueError, match=rf"config\.json: {message}"):
        load_weights(tmp_path, Width)


def test_a_model_gets_the_weights_that_fit_it():
    wanted = nn.Linear(3, 2)
    assert torch.equal(load_model(lambda: nn.Linear(3, 2), wanted.state_dict(), "net").weight, wanted.weight)


@pytest.mark.parametrize(
    ("build", "weights", "message"),
    [
        (lambda: nn.Linear(3, 2), {"weight": torch.zeros(2, 3)}, r"bias needs \(2,\), got None"),
        (lambda: nn.Linear(10**6, 10**6), {"weight": torch.zeros(2, 3)}, r"bias needs \(1000000,\), got None"),
        (lambda: nn.Linear(10**9, 10**18), {"weight": torch.zeros(2, 3)}, "the config at net makes no model"),
        (
            lambda: nn.Linear(2, 1, bias=False),
            {"weight": torch.tensor([[0, torch.nan]])},
            "hold nan or infinity in weight",
        ),
    ],
)
def test_weights_that_do_not_fit_take_no_memory(build, weights, message):
    with pytest.raises(ValueError, match=f"at net|{message}") as caught:
        load_model(build, weights, "net")
    assert caught.match(message)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        save_weights(tmp_path, STATE, {})
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {mode}


def test_weights_are_written_from_where_they_lie_and_shared_ones_twice(tmp_path):
    tensor = torch.arange(3.0)
    first, second = unshared({"a": tensor, "b": tensor}).values()
    assert first.data_ptr() == tensor.data_ptr() != second.data_ptr()
    save_weights(tmp_path, {"a": tensor, "b": tensor}, {})
    assert all(torch.equal(value, tensor) for value in load_weights(tmp_path, Anything)[1].values())

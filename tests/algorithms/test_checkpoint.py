"""Checkpoint files: atomic, checked, without code; random states and fingerprints."""

import os
import random

import numpy as np
import pytest
import torch
from torch import nn

from algorithms import checkpoint

STATE = {"x": torch.arange(5000.0)}


def damaged(content, damage):
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    return {"cut": content[: len(content) // 2], "bit": bytes(flipped), "empty": b"", "text": b"no checkpoint"}[damage]


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text"])
def test_a_damaged_checkpoint_is_named_and_the_previous_one_loaded(tmp_path, damage, caplog):
    checkpoint.save(tmp_path, 1, STATE)
    newest = checkpoint.save(tmp_path, 2, STATE)
    newest.write_bytes(damaged(newest.read_bytes(), damage))
    state = checkpoint.load_latest(tmp_path)
    assert state["iteration"] == 1 and torch.equal(state["x"], STATE["x"])
    assert "000002.pt is damaged" in caplog.text


def test_if_all_are_damaged_the_error_names_all(tmp_path):
    for iteration in (1, 2):
        path = checkpoint.save(tmp_path, iteration, STATE)
        path.write_bytes(damaged(path.read_bytes(), "cut"))
    with pytest.raises(ValueError, match=r"can be used \(000002.pt, 000001.pt\); leave out --resume"):
        checkpoint.load_latest(tmp_path)


def test_files_with_code_and_files_of_other_programs_are_refused(tmp_path, caplog):
    torch.save({"iteration": 2, "x": os.system}, tmp_path / "000002.pt")
    torch.save({"foo": 1}, tmp_path / "000001.pt")
    with pytest.raises(ValueError, match="can be used"):
        checkpoint.load_latest(tmp_path)
    assert "000002.pt holds more than tensors" in caplog.text
    assert "000001.pt is not a checkpoint of a run" in caplog.text


def test_without_checkpoints_load_latest_returns_none(tmp_path):
    assert checkpoint.load_latest(tmp_path / "none") is None


def test_the_last_two_are_kept_and_partial_files_ignored(tmp_path):
    for iteration in (1, 2, 3, 10):
        checkpoint.save(tmp_path, iteration, {"x": torch.tensor(iteration)})
    (tmp_path / ".000011.pt.123.part").write_bytes(b"half")
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["000003.pt", "000010.pt"]
    assert checkpoint.load_latest(tmp_path) == {"x": torch.tensor(10), "iteration": 10}


def test_a_run_taken_up_again_replaces_its_later_checkpoints(tmp_path):
    for iteration in (6, 8, 3, 4):
        checkpoint.save(tmp_path, iteration, STATE)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["000003.pt", "000004.pt"]


@pytest.mark.parametrize(("steps", "found"), [(10, 10), (20, 7), (8, None)])
def test_another_length_continues_from_before_the_cooldown(tmp_path, steps, found):
    for folder, iteration in (("checkpoints", 10), ("stable", 7)):
        checkpoint.save(tmp_path / folder, iteration, {"steps": 10})
    if found is None:
        with pytest.raises(ValueError, match=r"has done 10 of 10 .* run of 8, which needs a checkpoint up to 6;"):
            checkpoint.load_to_continue(tmp_path, steps, 0.3)
    else:
        assert checkpoint.load_to_continue(tmp_path, steps, 0.3)["iteration"] == found


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    def no_space(_):
        raise OSError("no space left on device")

    checkpoint.save(tmp_path, 1, {"x": torch.tensor(1)})
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(tmp_path, 2, {"x": torch.tensor(2)})
    assert checkpoint.load_latest(tmp_path)["iteration"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_archive_run_takes_the_first_free_name_and_leaves_folders_without_checkpoints(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    assert checkpoint.archive_run(folder) is None and folder.exists()
    (tmp_path / "run.1").mkdir()
    checkpoint.save(folder / "checkpoints", 3, STATE)
    assert checkpoint.archive_run(folder) == tmp_path / "run.2"
    assert not folder.exists() and checkpoint.load_latest(tmp_path / "run.2" / "checkpoints")["iteration"] == 3


def test_random_states_are_restored(tmp_path):
    checkpoint.save(tmp_path, 1, {"rng": checkpoint.rng_state()})

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()  # noqa: NPY002

    first = draw()
    assert draw() != first
    checkpoint.set_rng_state(checkpoint.load_latest(tmp_path)["rng"])
    assert draw() == first


def test_a_fingerprint_depends_on_every_bit_and_name():
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(layer.state_dict())
    assert checkpoint.fingerprint(layer) == checkpoint.fingerprint(other)
    other.bias.data[0] = torch.nextafter(other.bias.data[0], torch.tensor(9.0))
    assert checkpoint.fingerprint(layer) != checkpoint.fingerprint(other)
    assert checkpoint.fingerprint(nn.Sequential(layer)) != checkpoint.fingerprint(layer)

"""Checkpoint files: atomic, checked, without code; random states and fingerprints."""

import os
import random
import resource

import numpy as np
import pytest
import torch
from torch import nn

from algorithms import checkpoint

STATE = {"x": torch.arange(5000.0), "steps": 20}


def newest(folder):
    """State of the newest file in a folder that can be used."""
    return next(checkpoint.intact(reversed(checkpoint.list_checkpoints(folder))))


def damaged(content, damage):
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    return {"cut": content[: len(content) // 2], "bit": bytes(flipped), "empty": b"", "text": b"no checkpoint"}[damage]


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text"])
def test_a_damaged_checkpoint_is_named_and_the_previous_one_loaded(tmp_path, damage, caplog):
    checkpoint.save(tmp_path / "checkpoints", 1, STATE)
    file = checkpoint.save(tmp_path / "checkpoints", 2, STATE)
    file.write_bytes(damaged(file.read_bytes(), damage))
    state = checkpoint.load_to_continue(tmp_path, 20, 0.0)
    assert state["iteration"] == 1 and torch.equal(state["x"], STATE["x"])
    assert "000002.pt is damaged" in caplog.text


def test_if_all_are_damaged_the_error_names_all(tmp_path):
    for iteration in (1, 2):
        path = checkpoint.save(tmp_path / "checkpoints", iteration, STATE)
        path.write_bytes(damaged(path.read_bytes(), "cut"))
    with pytest.raises(ValueError, match=r"can be used \(checkpoints/000001.pt, checkpoints/000002.pt\); leave out"):
        checkpoint.load_to_continue(tmp_path, 20, 0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"iteration": 2, "x": os.system}, "holds more than tensors"),
        ({"foo": 1}, "is not a checkpoint of a run"),
        ({"iteration": 2, "loss": {}}, "is of another version"),
    ],
)
def test_files_with_code_and_files_of_other_programs_and_versions_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "000002.pt")
    with pytest.raises(ValueError, match=rf"000002.pt {message}"):
        checkpoint.load(tmp_path / "000002.pt")


def test_the_last_two_are_kept_and_partial_files_ignored(tmp_path):
    for iteration in (1, 2, 3, 10):
        checkpoint.save(tmp_path, iteration, {"x": torch.tensor(iteration)})
    (tmp_path / ".000011.pt.123.part").write_bytes(b"half")
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["000003.pt", "000010.pt"]
    assert newest(tmp_path)["x"] == newest(tmp_path)["iteration"] == 10


def test_files_are_sorted_by_number(tmp_path):
    for iteration in (999_998, 999_999, 1_000_000):
        checkpoint.save(tmp_path, iteration, STATE)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["999999.pt", "1000000.pt"]


def test_checkpoints_within_reach_and_the_one_before_are_kept(tmp_path):
    for iteration in range(1, 9):
        checkpoint.save(tmp_path, iteration, STATE, reach=3)
    assert [int(path.stem) for path in checkpoint.list_checkpoints(tmp_path)] == [5, 6, 7, 8]
    checkpoint.save(tmp_path, 20, STATE, reach=3)
    assert [int(path.stem) for path in checkpoint.list_checkpoints(tmp_path)] == [8, 20]


@pytest.mark.parametrize(("up_to", "found"), [(36, 40), (40, 40), (55, 50), (99, 60)])
def test_a_run_goes_back_to_the_newest_before_or_to_the_oldest(tmp_path, up_to, found):
    with pytest.raises(FileNotFoundError, match="no checkpoint to go back to in"):
        checkpoint.load_up_to(tmp_path, up_to)
    for iteration in (40, 50, 60):
        checkpoint.save(tmp_path, iteration, STATE, reach=20)
    assert checkpoint.load_up_to(tmp_path, up_to)["iteration"] == found


def test_the_state_is_not_copied_as_a_whole(tmp_path):
    """In small pieces: the peak of memory while saving is far below the size of the state."""
    state = {f"{i}": torch.zeros(1 << 18) for i in range(32)}  # 32 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checkpoint.save(tmp_path, 1, state)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (16 << 10)  # KiB


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
    assert newest(tmp_path)["iteration"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_random_states_are_restored(tmp_path):
    checkpoint.save(tmp_path, 1, {"rng": checkpoint.rng_state()})

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()  # noqa: NPY002

    first = draw()
    assert draw() != first
    checkpoint.set_rng_state(newest(tmp_path)["rng"])
    assert draw() == first


def test_a_fingerprint_depends_on_every_bit_and_name():
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(layer.state_dict())
    assert checkpoint.fingerprint(layer) == checkpoint.fingerprint(other)
    other.bias.data[0] = torch.nextafter(other.bias.data[0], torch.tensor(9.0))
    assert checkpoint.fingerprint(layer) != checkpoint.fingerprint(other)
    assert checkpoint.fingerprint(nn.Sequential(layer)) != checkpoint.fingerprint(layer)


def test_the_disk_needs_room_for_the_checkpoints_that_are_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "free_space", lambda run: 3000.0)
    checkpoint.check_space(tmp_path, 1000)
    with pytest.raises(OSError, match=f"{tmp_path} has 0.0 MiB left"):
        checkpoint.check_space(tmp_path, 1001)
    for step in (1, 2):
        checkpoint.save(tmp_path / "checkpoints", step, {})
    checkpoint.check_space(tmp_path, 3000)

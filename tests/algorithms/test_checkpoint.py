"""Stop anywhere and go on bit for bit; a damaged checkpoint is named and the one before it used."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from nft_toys import ToyNet, toy_run
from torch import nn

from algorithms import checkpoint
from algorithms.launch import start_accelerator

UNTIMED = ("reward", "kl", "loss_nft", "grad_norm", "drift", "lr")


def numbers(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["iteration"], *(line[key] for key in UNTIMED)) for line in lines]


def assert_same_run(loss, folder, other_loss, other_folder):
    for name, value in loss.state_dict().items():
        assert torch.equal(value, other_loss.state_dict()[name]), name
    assert numbers(folder) == numbers(other_folder)
    mine, its = (checkpoint.load_latest(x / "checkpoints") for x in (folder, other_folder))
    for key in ("ema", "optimizer"):
        assert flat(mine[key]) == flat(its[key])


def flat(state):
    """Nested state as comparable values."""
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    return [flat(value) for value in state] if isinstance(state, list | tuple) else state


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return toy_run(folder, start_accelerator(threads=1)), folder


def test_stopped_and_resumed_is_never_stopped(straight, tmp_path):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=4)
    loss = toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert_same_run(loss, tmp_path, *straight)


def test_a_run_that_is_killed_goes_on(straight, tmp_path):
    """SIGKILL after the fourth line of the log: it goes on from a checkpoint, and no line stands there twice."""
    command = [sys.executable, Path(__file__).with_name("nft_toys.py"), tmp_path, "0.3"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    log, deadline = tmp_path / "log.jsonl", time.monotonic() + 60
    while not log.exists() or len(log.read_text().splitlines()) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(numbers(tmp_path)) < 6
    loss = toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert_same_run(loss, tmp_path, *straight)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(straight, tmp_path, damage, caplog):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=4)
    newest = checkpoint.found(tmp_path / "checkpoints")[-1]
    spoil(newest, damage)
    loss = toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert f"{newest.name} is damaged" in caplog.text
    assert_same_run(loss, tmp_path, *straight)


def spoil(path, damage):
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 4
    whole = {"cut": content[: len(content) // 2], "bit": content, "empty": b"", "text": b"no checkpoint"}
    path.write_bytes(whole[damage])


def test_when_all_are_damaged_all_are_named(tmp_path):
    for iteration in (1, 2):
        checkpoint.save(tmp_path, iteration, {"x": torch.ones(3)})
        spoil(tmp_path / f"{iteration:06d}.pt", "cut")
    with pytest.raises(ValueError, match=r"can be used \(000002.pt, 000001.pt\); leave out --resume"):
        checkpoint.load_latest(tmp_path)


def test_files_with_code_and_files_of_another_program_are_refused(tmp_path, caplog):
    torch.save({"iteration": 2, "x": os.system}, tmp_path / "000002.pt")
    torch.save({"foo": 1}, tmp_path / "000001.pt")
    with pytest.raises(ValueError, match="can be used"):
        checkpoint.load_latest(tmp_path)
    assert "000002.pt holds more than tensors" in caplog.text
    assert "000001.pt is no checkpoint of a run" in caplog.text


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    assert checkpoint.load_latest(tmp_path / "none") is None


def test_two_are_kept_and_half_written_ones_do_not_count(tmp_path):
    for iteration in (1, 2, 3, 10):
        checkpoint.save(tmp_path, iteration, {"x": torch.tensor(iteration)})
    (tmp_path / ".000011.pt.123.part").write_bytes(b"half")
    assert [path.name for path in checkpoint.found(tmp_path)] == ["000003.pt", "000010.pt"]
    assert checkpoint.load_latest(tmp_path) == {"x": torch.tensor(10), "iteration": 10}


def test_a_stop_while_writing_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"x": torch.tensor(1)})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(tmp_path, 2, {"x": torch.tensor(2)})
    assert checkpoint.load_latest(tmp_path)["iteration"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_another_base_or_other_settings_are_refused(tmp_path):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=2)
    with pytest.raises(ValueError, match="other pretrained weights"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True, model=ToyNet(seed=9))
    newest = checkpoint.found(tmp_path / "checkpoints")[-1]
    state = checkpoint.load(newest)
    checkpoint.save(newest.parent, 2, state | {"settings": {"seed": 6}})
    with pytest.raises(ValueError, match="started with seed=6, now 5"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True)


def test_a_checkpoint_holds_the_reference_by_name_only(straight):
    state = checkpoint.load_latest(straight[1] / "checkpoints")
    assert {name.split(".")[0] for name in state["loss"]} == {"model", "model_old"}
    assert state["constant"] == [checkpoint.fingerprint(straight[0].model_ref)]


def test_random_states_come_back(tmp_path):
    checkpoint.save(tmp_path, 1, {"rng": checkpoint.rng_state()})

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()  # noqa: NPY002

    first = draw()
    assert draw() != first
    checkpoint.set_rng_state(checkpoint.load_latest(tmp_path)["rng"])
    assert draw() == first


def test_a_fingerprint_sees_one_bit_and_the_name():
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(layer.state_dict())
    assert checkpoint.fingerprint(layer) == checkpoint.fingerprint(other)
    other.bias.data[0] = torch.nextafter(other.bias.data[0], torch.tensor(9.0))
    assert checkpoint.fingerprint(layer) != checkpoint.fingerprint(other)
    assert checkpoint.fingerprint(nn.Sequential(layer)) != checkpoint.fingerprint(layer)


def test_nothing_to_resume_is_said_and_the_log_stays(straight, tmp_path):
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint to resume in .*; leave out --resume"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert (tmp_path / "log.jsonl").read_text() == "{}\n"

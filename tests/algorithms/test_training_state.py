"""Resuming: stopped anywhere, a run continues bit for bit; runs that do not fit their checkpoint are refused."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from algorithms import checkpoint
from algorithms.launch import start_accelerator
from tests.algorithms.nft_toys import ToyNet, toy_run

LOGGED = ("iteration", "reward", "kl", "loss_nft", "grad_norm", "drift", "lr")


def logged(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [tuple(line[key] for key in LOGGED) for line in lines]


def comparable(state):
    """Nested state with tensors as lists."""
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {key: comparable(value) for key, value in state.items()}
    return [comparable(value) for value in state] if isinstance(state, list | tuple) else state


def assert_same_run(loss, folder, other_loss, other_folder):
    for name, value in loss.state_dict().items():
        assert torch.equal(value, other_loss.state_dict()[name]), name
    assert logged(folder) == logged(other_folder)
    states = [newest_state(run) for run in (folder, other_folder)]
    assert states[0]["iteration"] == states[1]["iteration"]
    for part in ("ema", "optimizer"):
        assert comparable(states[0]["parts"][part]) == comparable(states[1]["parts"][part])


def newest_state(run):
    return checkpoint.load(checkpoint.list_checkpoints(run / "checkpoints")[-1])


def edit(run, **changes):
    """Change the newest checkpoint of a run."""
    state = newest_state(run)
    checkpoint.save(run / "checkpoints", state["iteration"], state | changes)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The loss module and the folder of a run of six iterations."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return toy_run(folder, start_accelerator(threads=1)), folder


def test_stopped_and_resumed_equals_uninterrupted(uninterrupted, tmp_path):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=4)
    loss = toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert_same_run(loss, tmp_path, *uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_and_resumed_equals_uninterrupted(uninterrupted, tmp_path, number):
    """In iteration 3, after the checkpoint of iteration 2. Killed, it is repeated; otherwise it is finished first."""
    command = [sys.executable, "-m", "tests.algorithms.nft_toys", tmp_path, str(int(number)), "3"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if number == signal.SIGKILL:
        assert done.returncode == -number and len(logged(tmp_path)) == 3
    else:
        assert done.returncode == 128 + number and len(logged(tmp_path)) == 4
        assert f"{number.name}: stopped after 4 of 6" in done.stderr and "Traceback" not in done.stderr
        assert newest_state(tmp_path)["iteration"] == 4
    loss = toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert_same_run(loss, tmp_path, *uninterrupted)


def test_resuming_before_a_damaged_checkpoint_equals_uninterrupted(uninterrupted, tmp_path):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=4)
    newest = checkpoint.list_checkpoints(tmp_path / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    loss = toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert_same_run(loss, tmp_path, *uninterrupted)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_more_iterations_continue_from_before_the_cooldown(tmp_path, optimizer):
    """Of a run of six, checkpoints are left of the fourth and the sixth; its learning rate fell after the third."""
    usual = {"cooldown": 0.5, "optimizer": optimizer}
    longer = toy_run(tmp_path / "longer", start_accelerator(threads=1), iterations=10, **usual)
    toy_run(tmp_path / "extended", start_accelerator(threads=1), **usual)
    assert [rate for *_, rate in logged(tmp_path / "extended")][4:] == pytest.approx([2e-3, 1e-3])
    extended = toy_run(tmp_path / "extended", start_accelerator(threads=1), iterations=10, resume=True, **usual)
    assert_same_run(extended, tmp_path / "extended", longer, tmp_path / "longer")


def test_fewer_iterations_continue_from_before_the_cooldown(tmp_path):
    """Of eight, checkpoints are left of the fourth and the sixth; a run of seven slows down after the fifth."""
    usual = {"cooldown": 0.4, "save_every": 2}
    shorter = toy_run(tmp_path / "shorter", start_accelerator(threads=1), iterations=7, **usual)

    def stop(iteration):
        if iteration == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy_run(tmp_path / "cut", start_accelerator(threads=1), iterations=11, before=stop, **usual)
    cut = toy_run(tmp_path / "cut", start_accelerator(threads=1), iterations=7, resume=True, **usual)
    assert_same_run(cut, tmp_path / "cut", shorter, tmp_path / "shorter")


def test_a_finished_run_is_not_made_shorter(uninterrupted):
    with pytest.raises(ValueError, match=r"has done 6 of 6 and is not the start of a run of 3.*up to 3; resume it"):
        toy_run(uninterrupted[1], start_accelerator(threads=1), iterations=3, resume=True)


def test_another_base_or_other_settings_raise(tmp_path):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=2)
    with pytest.raises(ValueError, match="other pretrained weights"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True, model=ToyNet(seed=9))
    edit(tmp_path, settings={"seed": "6"})
    with pytest.raises(ValueError, match="started with seed=6, now 5"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True)


@pytest.mark.parametrize("lost", ["loss.model.outer.weight", "optimizer.state.3.exp_avg", "ema.updates", "optimizer"])
def test_a_checkpoint_that_lacks_something_is_not_resumed_with_fresh_weights(tmp_path, lost):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=2)
    parts = newest_state(tmp_path)["parts"]
    part, _, name = lost.partition(".")
    inside = parts
    for key in {"": [], "state.3.exp_avg": [part, "state", 3]}.get(name, [part]):
        inside = inside[key]
    del inside[name.removeprefix("state.3.") or part]
    edit(tmp_path, parts=parts)
    with pytest.raises(ValueError, match=f"does not hold exactly what changes in this run: .* first {lost}"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True)


def test_a_module_that_has_grown_is_not_resumed_with_fresh_weights(tmp_path):
    toy_run(tmp_path, start_accelerator(threads=1), iterations=2)
    state = newest_state(tmp_path)
    parts, lost = state["parts"], "model.inner.bias"
    del parts["loss"][lost]
    edit(tmp_path, parts=parts, names=[name for name in state["names"] if name != f"loss.{lost}"])
    with pytest.raises(ValueError, match=f"first loss.{lost}"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True)


def test_frozen_models_are_saved_as_fingerprints(uninterrupted):
    loss, folder = uninterrupted
    state = newest_state(folder)
    assert {name.split(".")[0] for name in state["parts"]["loss"]} == {"model", "model_old"}
    assert state["frozen"] == [checkpoint.fingerprint(loss.model_ref)]


def test_without_a_checkpoint_resuming_raises_and_keeps_the_log(tmp_path):
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint to resume in .*; leave out --resume"):
        toy_run(tmp_path, start_accelerator(threads=1), resume=True)
    assert (tmp_path / "log.jsonl").read_text() == "{}\n"


def test_ranks_with_different_weights_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("algorithms.training_state.gather_object", lambda own: [*own, "other weights"])
    with pytest.raises(RuntimeError, match="the ranks hold different weights"):
        toy_run(tmp_path, start_accelerator(threads=1))

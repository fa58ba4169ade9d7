"""What counts as damage to a checkpoint, and as survival of it."""

import random

import pytest
import torch

from algorithms import checkpoint
from examples.studies.damaged_checkpoints import damage, same, survived_damages

STEPS = 6


@pytest.fixture
def run(tmp_path):
    """Folder of a run with two checkpoints."""
    for step in (4, STEPS):
        parts = {"network": {"w": torch.full((3000,), float(step))}, "ema": {"updates": step}}
        checkpoint.save(tmp_path / "checkpoints", step, {"parts": parts, "steps": STEPS})
    return tmp_path


def test_damage_changes_the_bytes():
    content = bytes(range(1, 256)) * 9
    damaged = [damage(content, random.Random(seed)) for seed in range(40)]
    assert all(other != content for other in damaged)
    assert len({len(other) == len(content) for other in damaged}) == 2


def test_a_damaged_checkpoint_is_survived_and_put_back(run, monkeypatch):
    newest = checkpoint.list_checkpoints(run / "checkpoints")[-1]
    content = newest.read_bytes()
    assert survived_damages(run, STEPS, 20, random.Random(0)) == 20 and newest.read_bytes() == content
    wrong = {"iteration": 4, "parts": {"network": {"w": torch.zeros(3000)}, "ema": {"updates": 4}}}
    monkeypatch.setattr(checkpoint, "load_to_continue", lambda *_: wrong)
    assert survived_damages(run, STEPS, 20, random.Random(0)) == 0


def test_states_are_compared_bit_for_bit():
    state = {"a": [torch.tensor([0.0, 1.0]), (1, "x")], "b": {"c": None}}
    assert same(state, {"a": [torch.tensor([0.0, 1.0]), (1, "x")], "b": {"c": None}})
    for other in ({"a": [torch.tensor([0.0, 1.1]), (1, "x")], "b": {"c": None}}, {"a": state["a"]}):
        assert not same(state, other)

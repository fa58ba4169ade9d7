"""Every number of log.jsonl is explained in docs/logs.md, and nothing else is."""

import json
import re
from importlib import import_module
from inspect import getmembers, isclass
from pathlib import Path
from pkgutil import iter_modules

import pytest
from torch import nn
from torchrl.objectives import LossModule

import algorithms.losses
from algorithms.clock import Clock
from algorithms.collapse import SIGNS
from algorithms.logs import time_metrics
from algorithms.losses.matching import MatchingLoss
from algorithms.losses.pretraining import PretrainingLoss

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "logs.md").read_text()
RECORDED = json.loads((ROOT / "tests" / "golden" / "smoke.json").read_text())
ROWS = [row.split("|")[1:-1] for row in PAGE.splitlines() if row.startswith("| `")]
EXPLAINED = {key for row in ROWS for key in re.findall(r"`([^`]+)`", row[0])}


def pattern(key: str) -> str:
    """A key as the page has it: the name of a reward is NAME."""
    return re.sub(r"^(rewards|signal_share)/[^/]+", r"\1/NAME", key)


def logged() -> set[str]:
    """Keys of a small run of every algorithm."""
    return {pattern(key) for lines in RECORDED.values() for line in lines for key in line} - {"iteration"}


def written_by_losses() -> set[str]:
    """Outputs of every loss of the library."""
    modules = [import_module(f"algorithms.losses.{found.name}") for found in iter_modules(algorithms.losses.__path__)]
    classes = {value for module in modules for _, value in getmembers(module, isclass)}
    losses = {loss for loss in classes if issubclass(loss, LossModule) and loss.__module__.startswith("algorithms.")}
    named = [vars(loss) for loss in losses]  # tensordict moves out_keys to _out_keys when the first one is made
    return {key for names in named for key in names.get("_out_keys", names.get("out_keys", ()))} | {pretraining_key()}


def pretraining_key() -> str:
    """The output that `PretrainingLoss` adds to those of a loss."""
    matching = MatchingLoss(*(nn.Linear(1, 1) for _ in range(3)))
    matching.in_keys, matching.out_keys = [], []
    (key,) = PretrainingLoss(matching, weight=1.0).out_keys
    return key


def time_keys() -> set[str]:
    clock = Clock()
    for phase in ("rollout", "rewards", "train"):
        with clock(phase):
            pass
    return {*time_metrics(clock.lap())}


@pytest.mark.parametrize("keys", [logged, written_by_losses, time_keys], ids=lambda keys: keys.__name__)
def test_every_number_is_explained(keys):
    found = keys()
    assert len(found) > 5 and found <= EXPLAINED


def test_what_is_watched_is_explained_with_its_limit():
    for sign in SIGNS:
        (row,) = [row for row in ROWS if f"`{sign.metric}`" in row[0]]
        limit = sign.factor if sign.factor != 1 else sign.offset
        assert "#" in row[3] and f"{limit:g}" in row[3]


def test_nothing_else_is_explained():
    assert EXPLAINED == logged() | written_by_losses() | time_keys()


def test_every_row_says_what_it_is_and_what_is_healthy():
    assert len(ROWS) > 20
    for row in ROWS:
        assert len(row) == 4 and row[1].strip() and row[2].strip()

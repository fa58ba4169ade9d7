"""When a run saves. Signals and several processes: test_training_state.py, test_trainer_ddp.py."""

import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from algorithms.autosave import Autosave
from algorithms.launch import start_accelerator


@pytest.fixture
def state():
    """Five steps of a run; `saved` lists those that were saved."""
    saved = []
    return SimpleNamespace(
        saved=saved,
        save=saved.append,
        steps=5,
        output_dir=Path("run"),
        accelerator=start_accelerator(threads=1),
        check_space=lambda: None,
    )


@pytest.mark.parametrize(
    ("every", "minutes", "expected"),
    [(2, math.inf, [2, 4, 5]), (9, math.inf, [5]), (9, 1e-9, [1, 2, 3, 4, 5]), (9, 1.0, [5])],
)
def test_it_saves_every_so_many_steps_or_minutes_and_at_the_end(state, every, minutes, expected):
    with Autosave(state, every=every, minutes=minutes) as autosave:
        for done in range(1, 6):
            autosave(done)
    assert state.saved == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_the_process_with_its_code(state, number, code, caplog):
    with pytest.raises(SystemExit) as ended, Autosave(state, every=9, minutes=math.inf) as autosave:
        autosave(1)
        os.kill(os.getpid(), number)
        autosave(2)
    assert ended.value.code == code and state.saved == [2]
    assert caplog.messages == [f"{number.name}: stopped after 2 of 5, with a checkpoint in run; --resume goes on"]

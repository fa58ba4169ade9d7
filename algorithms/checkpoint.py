"""Checkpoints for bit-exact resuming: folder/000012.pt holds the state after 12 iterations.

Writes are atomic, the last two files are kept, and reading one never runs code. A run keeps its checkpoints in
`checkpoints`, and in `stable` the one from before its learning rate fell. What a state holds: training_state.py.
"""

import hashlib
import logging
import math
import pickle
import random
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from algorithms.files import free_space
from algorithms.schedule import Plan, continues, shared_steps
from algorithms.sharding import whole
from cellenv.weights_io import atomic_replace

FOLDERS = ("checkpoints", "stable")  # of a run
KEEP_LAST = 2
FORMAT = 2  # of the state that `TrainingState` saves
logger = logging.getLogger(__name__)


def save(folder: str | Path, iteration: int, state: Mapping[str, Any], *, reach: int = 0) -> Path:
    """Write the state atomically and delete all but the last two checkpoints up to it; returns the file.

    state: nested dictionaries, lists and tuples of tensors, numbers and strings. It is written tensor by tensor.
    reach: those of the last so many iterations are kept too, and the one before them.
    """
    path = Path(folder) / f"{iteration:06d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as temporary:
        torch.save(dict(state) | {"iteration": iteration, "format": FORMAT}, temporary)
    files = list_checkpoints(folder, up_to=iteration)
    before_reach = len(list_checkpoints(folder, up_to=iteration - reach))
    kept = files[max(0, min(before_reach - 1, len(files) - KEEP_LAST)) :]
    for other in set(list_checkpoints(folder)) - set(kept):  # later ones are from before the run was taken up again
        other.unlink()
    return path


def check_space(run: Path, size: int) -> None:
    """Check that the disk has room for all checkpoints that a run will have at once, of so many bytes each or more.

    Raises:
        OSError: it has not; names the folder.
    """
    more = max(1, KEEP_LAST + 1 - len(list_checkpoints(run / FOLDERS[0])))
    left, needed = free_space(run) / 2**20, more * size / 2**20
    if left < needed:
        raise OSError(
            f"{run} has {left:,.1f} MiB left, and the checkpoints of this run need {needed:,.1f} or more: free some of"
            " it, or give another --output-dir"
        )


def load_to_continue(run: Path, steps: int, cooldown: float) -> dict[str, Any]:
    """Newest state in a run's folder from which a run of `steps` continues as if started with that many.

    That is the last one or, if the run was planned with another number of steps, the last one from before the learning
    rate falls in either plan; its states hold the plan as `steps`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: none can be used, or the learning rate fell, or the run ended, too late for `steps`.
    """
    files = sorted((path for name in FOLDERS for path in list_checkpoints(run / name)), key=iteration_of)
    if not files:
        raise FileNotFoundError(f"no checkpoint to resume in {run / FOLDERS[0]}; leave out --resume to start")
    now, newest = Plan(steps, cooldown), None
    for state in intact(reversed(files)):
        newest = newest or state
        if continues(state["iteration"], plan_of(state, cooldown), now):
            return state
    if newest is None:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in files)
        raise ValueError(f"no checkpoint in {run} can be used ({names}); leave out --resume to start anew")
    before = plan_of(newest, cooldown)
    raise ValueError(
        f"the run in {run} has done {newest['iteration']} of {before.steps} and is not the start of a run of {steps},"
        f" which needs a checkpoint up to {shared_steps(before, now)}; resume it with {before.steps}"
    )


def plan_of(state: Mapping[str, Any], cooldown: float) -> Plan:
    """Plan of the run that wrote a state. cooldown: of a state from before it was kept."""
    return Plan(state["steps"], state.get("cooldown", cooldown))


def intact(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """States of the files that can be used, on the CPU, with a warning for each of the others."""
    for path in files:
        try:
            yield load(path)
        except ValueError as error:
            logger.warning("%s; trying the one before it", error)


def load_up_to(folder: str | Path, iteration: int) -> dict[str, Any]:
    """State in the newest checkpoint of so many iterations at most, or else in the oldest there is, on the CPU.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is damaged.
    """
    if not (files := list_checkpoints(folder, up_to=iteration) or list_checkpoints(folder)[:1]):
        raise FileNotFoundError(f"no checkpoint to go back to in {folder}")
    return load(files[-1])


def load(path: Path) -> dict[str, Any]:
    """State in one file, on the CPU, after a check of its checksums.

    Raises:
        ValueError: the file is damaged, holds pickled objects, or is not a checkpoint of this version of the library.
    """
    try:
        with zipfile.ZipFile(path) as file:
            part = file.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f"checkpoint {path} holds more than tensors, numbers and strings, and was not read") from None
    except Exception as error:  # the unpickler does what an edited pickle says, and raises whatever comes of it
        raise ValueError(f"checkpoint {path} is damaged: {error!s:.200}") from error
    if part is not None:
        raise ValueError(f"checkpoint {path} is damaged in {part}")
    if not isinstance(state, dict) or "iteration" not in state:
        raise ValueError(f"{path} is not a checkpoint of a run: it has no 'iteration'")
    if state.get("format") != FORMAT:
        raise ValueError(f"checkpoint {path} is of another version of CellFluxRL, which alone can resume it")
    return state


def list_checkpoints(folder: str | Path, *, up_to: float = math.inf) -> list[Path]:
    """Checkpoint files in a folder, oldest first; up_to: of so many iterations at most."""
    files = sorted((path for path in Path(folder).glob("*.pt") if path.stem.isdecimal()), key=iteration_of)
    return [path for path in files if iteration_of(path) <= up_to]


def iteration_of(path: Path) -> int:
    """Iterations behind a checkpoint file, which is named after them."""
    return int(path.stem)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of all names, types, shapes and values of a state dict: equal only if every bit is.

    All processes must ask for that of a sharded module together.
    """
    digest = hashlib.sha256()
    for name, shard in module.state_dict().items():
        value = whole(shard)
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def rng_state() -> dict[str, Any]:
    """Global random states of this process; the library draws from none of them, but a user's reward may."""
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002 - the global generator is meant
    numpy_state["state"]["key"] = numpy_state["state"]["key"].tolist()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": numpy_state,
        "python": random.getstate(),
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what `rng_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])

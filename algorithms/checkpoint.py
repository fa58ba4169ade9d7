"""Checkpoints for bit-exact resuming: folder/000012.pt holds the state after 12 iterations.

Writes are atomic, the last two files are kept, and reading one never runs code. A run keeps its checkpoints in
`checkpoints`, and in `stable` the one from before its learning rate fell.
"""

import hashlib
import io
import itertools
import logging
import math
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from algorithms.files import write_whole
from algorithms.schedule import continues, cooldown_start

KEEP_LAST = 2
logger = logging.getLogger(__name__)


def save(folder: str | Path, iteration: int, state: Mapping[str, Any]) -> Path:
    """Write the state atomically and delete all but the last two checkpoints up to it; returns the file.

    state: nested dictionaries, lists and tuples of tensors, numbers and strings.
    """
    content = io.BytesIO()
    torch.save(dict(state) | {"iteration": iteration}, content)
    path = Path(folder) / f"{iteration:06d}.pt"
    write_whole(path, content.getvalue())
    kept = list_checkpoints(folder, up_to=iteration)[-KEEP_LAST:]
    for other in set(list_checkpoints(folder)) - set(kept):  # later ones are from before the run was taken up again
        other.unlink()
    return path


def load_to_continue(run: Path, steps: int, cooldown: float) -> dict[str, Any]:
    """Newest state in a run's folder from which a run of `steps` continues as if started with that many.

    That is the last one, or the one before the cooldown if the learning rate has begun to fall and the run was planned
    with another number of steps; its states hold that as `steps`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the learning rate fell, or the run ended, too late for `steps`.
    """
    newest = None
    for folder in ("checkpoints", "stable"):
        state = load_latest(run / folder)
        if state is not None and continues(state["iteration"], state["steps"], steps, cooldown):
            return state
        newest = newest or state
    if newest is None:
        raise FileNotFoundError(f"no checkpoint to resume in {run / 'checkpoints'}; leave out --resume to start")
    done, planned = newest["iteration"], newest["steps"]
    raise ValueError(
        f"the run in {run} has done {done} of {planned} and is not the start of a run of {steps}, which needs a"
        f" checkpoint up to {cooldown_start(min(planned, steps), cooldown)}; resume it with {planned}"
    )


def load_latest(folder: str | Path) -> dict[str, Any] | None:
    """State of the newest intact checkpoint, on the CPU, with a warning for each damaged one; None if there is none.

    Raises:
        ValueError: there are checkpoints, and none can be used.
    """
    damaged = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return load(path)
        except ValueError as error:
            logger.warning("%s; trying the one before it", error)
            damaged.append(path)
    if damaged:
        names = ", ".join(path.name for path in damaged)
        raise ValueError(f"no checkpoint in {folder} can be used ({names}); leave out --resume to start anew")
    return None


def load_up_to(folder: str | Path, iteration: int) -> dict[str, Any]:
    """State in the newest checkpoint of so many iterations at most, on the CPU.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged.
    """
    if not (files := list_checkpoints(folder, up_to=iteration)):
        raise FileNotFoundError(f"no checkpoint of the first {iteration} iterations in {folder}; save less often")
    return load(files[-1])


def load(path: Path) -> dict[str, Any]:
    """State in one file, on the CPU, after a check of its checksums.

    Raises:
        ValueError: the file is damaged, holds pickled objects, or is not a checkpoint of this library.
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
    return state


def list_checkpoints(folder: str | Path, *, up_to: float = math.inf) -> list[Path]:
    """Checkpoint files in a folder, oldest first; up_to: of so many iterations at most."""
    files = sorted(path for path in Path(folder).glob("*.pt") if path.stem.isdecimal())
    return [path for path in files if int(path.stem) <= up_to]


def archive_run(folder: str | Path) -> Path | None:
    """Rename a run folder that has checkpoints to the first free of folder.1, folder.2, ...; None if it has none."""
    folder = Path(folder)
    if not list_checkpoints(folder / "checkpoints"):
        return None
    number = next(n for n in itertools.count(1) if not folder.with_name(f"{folder.name}.{n}").exists())
    return folder.rename(folder.with_name(f"{folder.name}.{number}"))


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of all names, types, shapes and values of a state dict: equal only if every bit is."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
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

"""Checkpoints: everything that a run needs to go on bit for bit, whole or absent, without code in them.

A checkpoint is folder/000012.pt, where 12 iterations are done. The last two are kept.
"""

import hashlib
import io
import itertools
import logging
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from algorithms.files import write_whole

KEEP = 2
logger = logging.getLogger(__name__)


def save(folder: str | Path, iteration: int, state: dict[str, Any]) -> Path:
    """Write the state aside and rename it, then drop all but the last two checkpoints.

    state: nested dictionaries, lists and tuples of tensors, numbers and strings.
    """
    content = io.BytesIO()
    torch.save(state | {"iteration": iteration}, content)
    path = Path(folder) / f"{iteration:06d}.pt"
    write_whole(path, content.getvalue())
    for old in found(folder)[:-KEEP]:
        old.unlink()
    return path


def load_latest(folder: str | Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, on the CPU; None when there is no checkpoint at all.

    A damaged one is named in a warning, and the one before it is used.
    """
    damaged = []
    for path in reversed(found(folder)):
        try:
            return load(path)
        except ValueError as error:
            logger.warning("%s; trying the one before it", error)
            damaged.append(path)
    if damaged:
        names = ", ".join(path.name for path in damaged)
        raise ValueError(f"no checkpoint in {folder} can be used ({names}); leave out --resume to start anew")
    return None


def load(path: Path) -> dict[str, Any]:
    """The state in one file, after a look at the checksum of every part of it."""
    try:
        with zipfile.ZipFile(path) as file:
            if (part := file.testzip()) is not None:
                raise ValueError(f"checkpoint {path} is damaged in {part}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f"checkpoint {path} holds more than tensors, numbers and strings, and was not read") from None
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError) as error:
        raise ValueError(f"checkpoint {path} is damaged: {error}") from error
    if not isinstance(state, dict) or "iteration" not in state:
        raise ValueError(f"{path} is no checkpoint of a run: it does not say which iteration it was written after")
    return state


def found(folder: str | Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in Path(folder).glob("*.pt") if path.stem.isdecimal())


def set_aside(folder: str | Path) -> Path | None:
    """Rename a folder with checkpoints in it to the first free of folder.1, folder.2, ...; None: there are none."""
    folder = Path(folder)
    if not found(folder / "checkpoints"):
        return None
    number = next(n for n in itertools.count(1) if not folder.with_name(f"{folder.name}.{n}").exists())
    return folder.rename(folder.with_name(f"{folder.name}.{number}"))


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of all names, types and weights: the same on two ranks, or in two runs, only if every bit is."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def rng_state() -> dict[str, Any]:
    """The global random states of this process. The library draws from none of them; a user's reward may."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global one is meant
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, keys.tolist(), *rest),
        "python": random.getstate(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Undo what was drawn since `rng_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.asarray(keys, np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])

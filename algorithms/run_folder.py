"""The folder of a run: one process at a time writes to it, and what another run left there is set aside."""

import itertools
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from algorithms.checkpoint import FOLDERS, list_checkpoints
from algorithms.processes import from_main

LOCK = ".lock"  # held by a process that lives
HOLDER = ".lock.holder"  # says which one; outlives a process that was killed. Not in LOCK, which a try may truncate
TEMPORARY = re.compile(r"\..+\.\d+")  # names of files that `cellenv.weights_io.atomic_replace` has not finished
WRITTEN = (*FOLDERS, "samples", "nonfinite", "model", "generator-*")  # folders of a run; others may be runs themselves


@contextmanager
def run_folder(folder: Path, *, resume: bool) -> Iterator[None]:
    """Keep other runs out of the folder while the context lasts; ready on all ranks when it begins.

    Another run in the folder is set aside, unless that run is resumed.

    Raises:
        ValueError: another process holds the folder, or another run is in it that cannot be set aside.
    """
    lock: FileLock | None = None

    def take() -> None:
        nonlocal lock
        lock = claim(folder)
        if not resume and has_checkpoints(folder):
            moved = set_aside(folder)
            release(lock, moved)
            lock = None
            print(f"{folder} held another run; it is in {moved} now (--resume would have continued it)")
            lock = claim(folder)

    try:
        from_main(take, "take the output folder")
        yield
    finally:
        if lock is not None:
            release(lock, folder)


def claim(folder: Path) -> FileLock:
    """The folder's lock, acquired; what its last holder has not finished writing is deleted.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, file = FileLock(folder / LOCK), folder / HOLDER
    last = file.read_text(encoding="utf-8") if file.exists() else ""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = last or "another process"
        raise ValueError(
            f"{folder} is in use by {holder}: wait for it or end it, or give another --output-dir"
        ) from None
    if last:
        print(f"{folder} was in use by {last}, which has ended; taken over")
    file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    for pattern in (".*", *(f"{name}/.*" for name in WRITTEN)):
        for path in folder.glob(pattern):
            if TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
    return lock


def release(lock: FileLock, folder: Path) -> None:
    """Give up the lock of a folder, and leave no word of having held it."""
    (folder / HOLDER).unlink(missing_ok=True)
    lock.release()


def has_checkpoints(folder: Path) -> bool:
    """Whether there is something in the folder that could be resumed."""
    return any(list_checkpoints(folder / name) for name in FOLDERS)


def set_aside(folder: Path) -> Path:
    """Rename a folder to the first free of folder.1, folder.2, ..., which is returned.

    Raises:
        ValueError: this process works in it, so that what it writes would follow.
    """
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder} holds another run and is the working folder: give another --output-dir, or --resume that run"
        )
    number = next(n for n in itertools.count(1) if not folder.with_name(f"{folder.name}.{n}").exists())
    return folder.rename(folder.with_name(f"{folder.name}.{number}"))

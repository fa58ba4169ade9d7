"""Inspections that are remembered until a file changes, and the one that a run starts with."""

import os
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from algorithms.build import build_folder, build_layout
from algorithms.config import DataConfig
from algorithms.files import write_whole
from algorithms.presence import report
from cellenv.data.inspection.findings import Inspection, Problem
from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from cellenv.json_io import dump_json, read_json


def check_data(
    config: DataConfig,
    *,
    unseen: bool = False,
    splits: tuple[str, ...] = ("train", "test"),
    tell: Callable[[str], object] | None = None,
) -> None:
    """Inspect the folder of a config, tell its problems, one a line, and refuse those that would stop a run.

    Does nothing for the embedded world. The main process goes first; the others read what it remembers and packs.

    unseen: the run is about held-out compounds. splits: those that it uses. tell: None prints, on the main process.

    Raises:
        ValueError: there is such a problem; it names the rows, and the flag that mends it.
    """
    if config.path is None:
        return
    processes = PartialState()
    report("check the data")
    with processes.main_process_first():
        folder = CellFolder.read(
            config.path,
            layout=build_layout(config.path, config),
            include_unseen=config.include_unseen or unseen,
            skip_bad=config.skip_bad,
            splits=splits,
        )
        inspection = inspect_cached(folder, config.cache)
        packs = config.cache is not None and processes.num_processes > 1 and processes.is_main_process
        if packs and not inspection.stops:  # here, or each process would pack all images for itself
            build_folder(config.path, config, splits[0], unseen=None if config.include_unseen else unseen)
    for problem in inspection.problems:
        if not problem.stops:
            (tell or processes.print)(f"{config.path}: {one_line(problem)}")
    if inspection.stops:
        lines = "\n".join(f"- {one_line(problem)}" for problem in inspection.stops)
        raise ValueError(f"{config.path} cannot be used as it is (`cellfluxrl check` shows all of it):\n{lines}")


def one_line(problem: Problem) -> str:
    """Title, the first rows, and what mends it."""
    return f"{problem.title} ({problem.count}): {problem.named_rows()}; {problem.mend}"


def inspect_cached(folder: CellFolder, cache: Path | None = None) -> Inspection:
    """The inspection that is stored, or a new one if a file has changed since, or none is stored.

    cache: folder for it; None: that of the user.
    """
    try:
        return read_json(_stored(folder, cache), Inspection)
    except (OSError, ValueError):
        return inspect_anew(folder, cache)


def inspect_anew(folder: CellFolder, cache: Path | None = None) -> Inspection:
    """A new inspection, stored if the cache can be written."""
    file = _stored(folder, cache)  # before the images are read, so that one that changes meanwhile is read again
    inspection = inspect_folder(folder)
    try:
        write_whole(file, dump_json(inspection))
    except OSError as error:
        print(f"the check of {folder.path} is not remembered: {error}")
    return inspection


def _stored(folder: CellFolder, cache: Path | None) -> Path:
    if cache is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cellfluxrl"
    return cache / f"check-{folder.fingerprint()[:32]}.json"

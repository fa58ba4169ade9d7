"""Settings that must be equal when a run is resumed, as text by dotted names; a path stands for its content."""

import os
import re
from collections.abc import Container, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from algorithms.logs import flatten_config
from cellenv.data.cells import CellData
from cellenv.weights_io import file_digest

NAMES_OR_PATHS = ("generator", "data.channels", "reward.segmenter", "reward.nucleus_weights", "reward.cell_weights")
PYTHON_FILE = re.compile(r"[^=:]+\.py(?=:)")  # in NAME=FILE:FUNCTION, a reward


def resume_settings(config: Any, may_change: Container[str], cells: CellData, mixed_precision: str) -> dict[str, str]:
    """Every field of a config except those that may change, and the precision that came of it.

    A file or folder may be moved: it is named by a digest of its content, and `data.path` by one of the table of cells.
    """
    raw = flatten_config(asdict(config), convert=content_name)
    settings = {name: str(value) for name, value in raw.items() if name not in may_change}
    paths = {name: Path(text) for name in NAMES_OR_PATHS if os.path.exists(text := settings.get(name, ""))}
    settings |= {name: content_digest(path) for name, path in paths.items()}
    if config.data.path is not None:
        settings["data.path"] = table_digest(cells)
    return settings | {"mixed_precision": mixed_precision}


def content_name(value: object) -> str:
    """The value as text; the paths in it are replaced by digests of what they hold."""
    if isinstance(value, tuple):
        return str(tuple(map(content_name, value)))
    text = str(value)
    if (isinstance(value, Path) or os.sep in text) and os.path.exists(text):
        return content_digest(Path(text))
    return PYTHON_FILE.sub(lambda file: content_digest(Path(file[0])) if os.path.exists(file[0]) else file[0], text)


def content_digest(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of all files in a folder."""
    if path.is_file():
        return f"content {file_digest(path)[:16]}"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return short_digest(*(f"{file.relative_to(path)} {file_digest(file)}" for file in files))


def table_digest(cells: CellData) -> str:
    """Of keys, plates, compounds, mechanisms and conditions of cells, whose images may be too many to read."""
    numbers = (x.tolist() for x in (cells.perturbation, cells.plate, cells.compound_moa))
    return short_digest(*cells.keys, *cells.compounds, *cells.moas, *numbers, cells.conditions.numpy().tobytes())


def short_digest(*parts: object) -> str:
    """Of the text of all parts."""
    return f"content {sha256(repr(parts).encode()).hexdigest()[:16]}"


def describe_changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Settings that differ, as "beta=0.1, now 0.5"; empty if none does."""
    changed = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
    return ", ".join(f"{name}={then.get(name)}, now {now.get(name)}" for name in changed)

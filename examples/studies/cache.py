"""Results of finished runs as JSON files, which are read again only under the settings that they were made with."""

import json
from collections.abc import Container, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from algorithms.files import write_whole
from algorithms.logs import flatten_config
from algorithms.resume_settings import describe_changes


def save_cached(file: Path, settings: Mapping[str, str], content: Mapping[str, Any]) -> None:
    """Write content with the settings that decided it, atomically."""
    write_whole(file, json.dumps({"settings": settings, "content": content}, allow_nan=False).encode())


def load_cached(file: Path, settings: Mapping[str, str]) -> Any | None:
    """Content that `save_cached` wrote, or None if there is no such file.

    Raises:
        ValueError: the file was made with other settings.
    """
    if not file.exists():
        return None
    saved = json.loads(file.read_text(encoding="utf-8"))
    if changes := describe_changes(saved["settings"], settings):
        raise ValueError(f"{file} was made with {changes}; give another --output-dir, or remove the file")
    return saved["content"]


def config_signature(config: Any, resumable: Container[str]) -> dict[str, str]:
    """Every field of a config by its dotted name, except the resumable ones: those may change between two calls."""
    return {name: str(value) for name, value in flatten_config(asdict(config)).items() if name not in resumable}

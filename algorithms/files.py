"""Files that are whole or absent: written aside, then renamed."""

import os
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Put content under path; a stop at any moment leaves the file that was there before, or none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)

"""Files that are whole or absent."""

from pathlib import Path

from cellenv.checkpoints import write_atomically


def write_whole(path: str | Path, content: bytes) -> None:
    """Put content under path, and make its folder; a stop at any moment leaves the old file, or none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)

"""The reference of the command line: for each command of `cellfluxrl` a page with what its `--help` prints."""

from __future__ import annotations

import io
import textwrap
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from algorithms.cli import COMMANDS, run

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "cli"
COLUMNS = 88
TERMINAL = {"COLUMNS": str(COLUMNS), "NO_COLOR": "1"}

Command = tuple[str, ...]


def help_text(command: Command) -> str:
    """What `cellfluxrl COMMAND --help` prints, in lines of COLUMNS characters without colours."""
    with patch.dict("os.environ", TERMINAL), redirect_stdout(io.StringIO()) as out, suppress(SystemExit):
        run(*command, args=["--help"])
    return "\n".join(wrap(line.rstrip()) for line in out.getvalue().strip().splitlines())


def wrap(line: str) -> str:
    """A line of prose in lines of COLUMNS characters; indented ones and boxes stay."""
    return line if line.startswith(" ") or len(line) <= COLUMNS else textwrap.fill(line, COLUMNS)


def pages() -> dict[str, str]:
    """Markdown of the page of each command, by file name."""
    return {
        f"{'-'.join(command)}.md": f"# cellfluxrl {' '.join(command)}\n\n```text\n{help_text(command)}\n```\n"
        for command in COMMANDS
    }


def write_pages(app: Sphinx) -> None:
    """Write the pages that have changed, and remove those of commands that are gone."""
    folder = Path(app.srcdir, FOLDER)
    folder.mkdir(exist_ok=True)
    wanted = pages()
    for file in folder.glob("*.md"):
        if file.name not in wanted:
            file.unlink()
    for name, text in wanted.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages before Sphinx looks for its sources."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}

"""How a file was made: what is recorded in the files that a command writes."""

import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from algorithms.config import DataConfig

ENTRY_POINTS = ("cellfluxrl", "cli.py")  # the console script; `python -m algorithms.cli`
LICENSE = "apache-2.0"  # of the library, and so of what comes of nothing but its own parts
EMBEDDED = (
    "the embedded world of CellFluxRL: procedural pictures of cells, no real ones. Figures measured on them say "
    "nothing about drugs"
)


def shell_command() -> str:
    """Return the command line of this process, quoted for a shell: `cellfluxrl ...` or `python SCRIPT ...`."""
    program, *args = sys.argv
    start = ["cellfluxrl"] if Path(program).name in ENTRY_POINTS else ["python", program]
    return shlex.join([*start, *args])


def library_version() -> str:
    """Version of the installed library; "unknown" for a checkout that is not installed."""
    try:
        return version("cellfluxrl")
    except PackageNotFoundError:
        return "unknown"


def provenance(data: DataConfig) -> dict[str, str]:
    """Command, version, and the cells in a sentence, without the place of a folder.

    With the licence, where the cells are the library's own; for others it is not known.
    """
    about = {"command": shell_command(), "version": library_version()}
    if data.path is None:
        return about | {"data": EMBEDDED, "license": LICENSE}
    return about | {"data": f"a folder of images, {data.path.name}, in the layout {data.layout}"}

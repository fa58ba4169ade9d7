"""The command that started this process, recorded in the files that it writes."""

import shlex
import sys
from pathlib import Path

ENTRY_POINTS = ("cellfluxrl", "cli.py")  # the console script; `python -m algorithms.cli`


def shell_command() -> str:
    """Return the command line of this process, quoted for a shell: `cellfluxrl ...` or `python SCRIPT ...`."""
    program, *args = sys.argv
    start = ["cellfluxrl"] if Path(program).name in ENTRY_POINTS else ["python", program]
    return shlex.join([*start, *args])

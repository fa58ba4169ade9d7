"""A wrong input ends a command with a sentence and exit code 2; a fault of the program keeps its traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from types import TracebackType

PACKAGES = ("cellenv", "rewards", "algorithms", "examples")
INPUT_ERRORS = (ValueError, OSError, ImportError)  # as our functions raise them, see their docstrings


@contextmanager
def user_errors(command: str) -> Iterator[None]:
    """Print an error that this project raised about its input as `command: message`, and exit with code 2.

    An error that comes from elsewhere, a library or a user's reward, passes through with its traceback; one of the
    operating system about a file does not.
    """
    try:
        yield
    except INPUT_ERRORS as error:
        if not (_is_raised_here(error.__traceback__) or _is_about_a_file(error)):
            raise
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _is_raised_here(traceback: TracebackType | None) -> bool:
    *_, (frame, _) = walk_tb(traceback)
    return str(frame.f_globals.get("__name__")).partition(".")[0] in PACKAGES


def _is_about_a_file(error: Exception) -> bool:
    return isinstance(error, OSError) and error.filename is not None

"""What is printed: tables as wide as their numbers, names as they are, and no character that ends a run."""

import codecs
import io
import sys
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement

# of every table
STYLE: dict[str, Any] = {"title_justify": "left", "caption_justify": "left", "box": box.SIMPLE, "pad_edge": False}
WIDEST = 300  # characters of a table; a narrower terminal breaks its lines
PLAIN = {"−": "-", "–": "-", "▲": "^", "▼": "v"}  # where the encoding lacks a character; "?" for others


def allow_any_character() -> None:
    """Let the terminal print a plain character for one that its encoding lacks, in place of an error."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in lacking), error.end


def show(*parts: RenderableType) -> None:
    """Print tables and texts. Brackets and colons in them are no markup; style is given by `rich.text.Text`."""
    console = Console(markup=False, emoji=False)
    options = console.options.update(max_width=WIDEST)
    needed = max(Measurement.get(console, options, part).maximum for part in parts if not isinstance(part, str))
    Console(markup=False, emoji=False, width=max(console.width, needed)).print(*parts, sep="\n")

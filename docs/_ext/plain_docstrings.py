"""Docstrings are plain English with formulas: |v+ - v|^2 and x' mean themselves, and `code` is code.

Runs before Napoleon, which makes lists of the sections `Args:` and `Raises:`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"([\\*|_`\[\]])")
TABLE = re.compile(r" {12}| {8}\S.*\S {2,}\S")
SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Example):$")


def to_rst(lines: Sequence[str]) -> list[str]:
    """The same text in reStructuredText."""
    converted: list[str] = []
    section = None
    for filled, group in groupby(lines, key=bool):
        paragraph = list(group)
        if filled and not is_indented(paragraph[0]):
            match = SECTION.match(paragraph[0])
            section = match and match[1]
        converted += convert(paragraph, section) if filled else paragraph
    return converted


def convert(paragraph: list[str], section: str | None) -> list[str]:
    """A paragraph of a section, or outside of all; an indented one is a literal block."""
    if section == "Example":
        return paragraph
    if section:
        return escape_section(paragraph)
    if is_indented(paragraph[0]):
        return ["::", "", *paragraph]
    if any(map(is_indented, paragraph)):  # entries with hanging indents: a list
        return [f"  {escape(line.strip())}" if is_indented(line) else f"- {escape(line)}" for line in paragraph]
    return [escape(line) for line in paragraph]


def escape_section(paragraph: list[str]) -> list[str]:
    """Entries that Napoleon reads; lines in columns, or indented once more, are a literal block."""
    converted: list[str] = []
    for is_table, group in groupby(paragraph, key=lambda line: TABLE.match(line) is not None):
        rows = list(group)
        if is_table:
            first = rows[0][: len(rows[0]) - len(rows[0].lstrip())]
            converted += ["", f"{first}::", "", *(f"    {row}" for row in rows), ""]
        else:
            converted += [row if SECTION.match(row) else escape(row) for row in rows]
    return converted


def is_indented(line: str) -> bool:
    """Whether a line is set in by four spaces or more."""
    return line.startswith("    ")


def escape(line: str) -> str:
    """A line of text whose characters have no meaning but `code`, which becomes ``code``."""
    parts = CODE.split(line)
    return "".join(f"`{part}`" if CODE.fullmatch(part) else MARKUP.sub(r"\\\1", part) for part in parts)


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Replace the lines of a docstring, as autodoc's event asks."""
    lines[:] = to_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the conversion ahead of Napoleon's."""
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True}

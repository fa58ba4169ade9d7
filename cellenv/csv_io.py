"""Tables of text as users have them: CSV by commas, semicolons or tabs, with any line ends; damage is named by line."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cellenv.weights_io import write_atomically

SEPARATORS = ",;\t|"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet runs
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
WORKBOOK_MARKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx, .ods; .xls

Row = dict[str, str]


def read_lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells without blanks around them) of every line that has more than blanks and separators.

    UTF-8 or, with a byte order mark, UTF-16. The separator is the one of SEPARATORS that the first line has most often.

    Raises:
        ValueError: the file has another encoding, a quote that does not end its cell, or a cell of more than 131,072
            characters.
    """
    return parse_lines(_decode(file), file)


def parse_lines(text: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a text as `read_lines` gives them; file: where it came from, for errors."""
    first = next((line for line in io.StringIO(text) if line.strip(SEPARATORS + " \r\n")), "")
    separator = max(SEPARATORS, key=first.count)
    if '" ' in text:
        text = _blanks_behind_quotes(separator).sub(r"\1", text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    last = 0  # line that was read well
    try:
        for cells in reader:
            last = reader.line_num
            if any(stripped := [cell.strip() for cell in cells]):
                yield reader.line_num, stripped
    except csv.Error as error:
        quotes = 'need a cell that begins with " to end with it, and "" for each " inside'
        raise ValueError(f"{file}, line {last + 1}: {error}; {quotes}") from error


def _blanks_behind_quotes(separator: str) -> re.Pattern[str]:
    """Cells in quotes, as group 1, with the blanks behind them, which the strict reader refuses."""
    return re.compile(rf'("(?<![^{separator}\r\n]")(?:[^"]|"")*+") *(?![^{separator}\r\n])')


def raise_error(error: Exception) -> None:
    """Raise it."""
    raise error


def read_rows(
    file: Path, columns: Mapping[str, str], refuse: Callable[[ValueError], None] = raise_error
) -> Iterator[tuple[str, Row]]:
    """(file and line, {column: cell}) of every line below the header. A short row lacks its last columns.

    columns: that the header must have, others are read as well -> what to do without it, or "". refuse: is called with
    the error of a row that has more cells than the header; if it does not raise, the row is left out.

    Raises:
        ValueError: the header lacks a column, or has one twice; see also `read_lines`.
    """
    lines = read_lines(file)
    header = next(lines, (0, [""]))[1]
    if missing := [name for name in columns if name not in header]:
        hints = "".join(f"; {columns[name]}" for name in missing if columns[name])
        raise ValueError(f"{file} lacks the columns {missing}; it has {_shorten(header)}{hints}")
    if double := [name for name in columns if header.count(name) > 1]:
        raise ValueError(f"{file} has the column {double[0]} twice")
    for number, cells in lines:
        where = f"{file}, line {number}"
        try:
            check_length(cells, header, where)
        except ValueError as error:
            refuse(error)
        else:
            yield where, dict(zip(header, cells))


def check_length(cells: Sequence[str], header: Sequence[str], where: str) -> None:
    """Raise ValueError if a row has more cells than the header, and not only blank ones."""
    if any(cells[len(header) :]):
        raise ValueError(f"{where}: {len(cells)} values, {len(header)} columns; quote what holds commas")


def write_rows(file: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, atomically."""
    content = io.StringIO(newline="")
    csv.writer(content, lineterminator="\n").writerows(rows)
    write_atomically(file, content.getvalue().encode())


def spreadsheet_text(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula: with an apostrophe before =, +, - or @."""
    return f"'{text}" if text.startswith(FORMULA) else text


def read_text_bytes(file: Path) -> bytes:
    """Content of a table of text.

    Raises:
        ValueError: it is a workbook of a spreadsheet.
    """
    content = file.read_bytes()
    if content.startswith(WORKBOOK_MARKS):
        raise ValueError(f"{file} is a workbook: save it as CSV")
    return content


def _decode(file: Path) -> str:
    content = read_text_bytes(file)
    encoding = "utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file}, line {line}: need UTF-8, got the byte 0x{content[error.start]:02x}; save the table as CSV UTF-8"
        ) from error


def _shorten(names: list[str]) -> str:
    """The names, the first 20 of them, as text of at most 1,000 characters."""
    return str(names[:20])[:1000] + (f" and {len(names) - 20} more" if len(names) > 20 else "")

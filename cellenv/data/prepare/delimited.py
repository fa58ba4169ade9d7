"""Tables of other people's software: as `cellenv.csv_io` reads them, and also in Windows' code page, and gzipped."""

import gzip
from pathlib import Path

from cellenv.csv_io import Row, check_length, parse_lines, read_text_bytes

BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def read_rows(file: Path) -> list[Row]:
    """Rows of a table by column, without blanks around names and values, empty rows, and columns without a name.

    The text is UTF-8, UTF-16 with its mark, or else Windows' code page 1252; the file may be gzipped (.gz).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there is no row, a column is named twice, a row has more values than the header, or it is a
            workbook.
    """
    lines = read_cells(file)
    if len(lines) < 2:
        raise ValueError(f"{file} needs a header and at least one row; it has {len(lines)} lines")
    names = lines[0]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ValueError(f"{file} names the columns {', '.join(twice)} twice")
    for number, line in enumerate(lines[1:], 2):
        check_length(line, names, f"{file}, row {number}")
    return [{name: value for name, value in zip(names, [*line, *[""] * len(names)]) if name} for line in lines[1:]]


def read_cells(file: Path) -> list[list[str]]:
    """Cells of all rows, the header too, without blanks around them; see `read_rows`."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no table {file}")
    return [cells for _, cells in parse_lines(_decode(file), file)]


def _decode(file: Path) -> str:
    """Text of the file."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else read_text_bytes(file)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")

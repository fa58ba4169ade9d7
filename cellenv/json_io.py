"""JSON files that we write: a dataclass is the schema of each, for writing and for reading."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

Schema = TypeVar("Schema")


def read_json(file: Path, schema: type[Schema]) -> Schema:
    """What the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or a value is missing, foreign, of another type, or refused by the schema's
            `__post_init__`; names file and value.
    """
    return validate(file.read_bytes(), schema, file)


def validate(content: bytes, schema: type[Schema], file: Path) -> Schema:
    """The content of a file, as `read_json` checks it."""
    try:
        return TypeAdapter(schema).validate_json(content, strict=True, extra="forbid")
    except ValidationError as error:
        raise ValueError(f"{file}: {_describe(error)}") from error


def dump_json(content: Any) -> bytes:
    """Text of a dataclass, or of a mapping; nan is a ValueError."""
    plain = content if isinstance(content, dict) else asdict(content)
    return json.dumps(plain, indent=2, allow_nan=False).encode() + b"\n"


def _describe(error: ValidationError) -> str:
    """The first of the errors, in one line."""
    first = error.errors(include_url=False)[0]
    place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    came = "" if isinstance(first["input"], dict | list | str | bytes) else f", got {first['input']!r:.50}"
    return f"{place}: {message}{came}"[:500] if place else message[:500]

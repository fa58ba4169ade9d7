"""Damaged files: strategies that spoil sound ones, and the bounds that every reader keeps on them.

FUZZ_CASES=10000 python -m pytest tests/fuzz    # the long mode; without it, the same 200 cases each time
"""

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("FUZZ_CASES", "200"))
SECONDS = 5  # of the processor, for one case
MEGABYTES = 64  # that one case may take beyond what the process has taken before

fuzz = settings(
    max_examples=CASES,
    derandomize=CASES <= 200,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

NASTY_NUMBERS = [0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf")]
NASTY_TEXTS = ["", "0", "nan", "..", "../x", "a/b", "\\", "\0", "\n", '"', "x" * 300, "µ", "1e400", "=1+1", "[red]"]
DEEP: list[Any] = []
for _ in range(50):
    DEEP = [DEEP]
nasty = st.sampled_from(
    [*NASTY_NUMBERS, *NASTY_TEXTS, None, True, False, [], {}, [[]], [None], [0] * 1000, DEEP, {"": 0}]
)


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Content with one to four of: a changed byte, a lost, a doubled or a foreign part, an early end."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["flip", "lose", "double", "insert", "cut"]))
        start = draw(st.integers(0, max(0, len(data) - 1)))
        end = min(len(data), start + draw(st.integers(1, 64)))
        if kind == "flip" and data:
            data[start] = draw(st.integers(0, 255))
        elif kind == "lose":
            del data[start:end]
        elif kind == "double":
            data[start:start] = data[start:end]
        elif kind == "insert":
            data[start:start] = draw(st.binary(max_size=16))
        elif kind == "cut":
            del data[start:]
    return bytes(data)


@st.composite
def damaged_json(draw: st.DrawFn, content: Any) -> bytes:
    """JSON with one to three entries replaced, lost or added."""
    content = deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(places(content)) or [(content, None)]))
        kind = draw(st.sampled_from(["replace", "replace", "lose", "add"]))
        if key is None or kind == "add":
            grow(holder, draw(st.sampled_from(NASTY_TEXTS)), deepcopy(draw(nasty)))
        elif kind == "replace":
            holder[key] = deepcopy(draw(nasty))
        else:
            holder.pop(key)
    return json.dumps(content).encode()


@st.composite
def damaged_table(draw: st.DrawFn, rows: list[list[str]]) -> bytes:
    """A table with one to three cells replaced, lines lost or doubled, in any dress."""
    rows = [list(row) for row in rows]
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.integers(0, len(rows) - 1))
        kind = draw(st.sampled_from(["replace", "replace", "lose", "double", "shorten"]))
        if kind == "replace" and rows[row]:
            rows[row][draw(st.integers(0, len(rows[row]) - 1))] = draw(st.sampled_from(NASTY_TEXTS))
        elif kind == "lose" and len(rows) > 1:
            del rows[row]
        elif kind == "double":
            rows.insert(row, rows[row])
        else:
            rows[row] = rows[row][:-1]
    text = draw(st.sampled_from(["\n", "\r", "\r\n"])).join(draw(st.sampled_from(",;\t|")).join(row) for row in rows)
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])), errors="replace")


def grow(holder: Any, key: str, value: Any) -> None:
    """Add an entry to a dict or list."""
    if isinstance(holder, dict):
        holder[key] = value
    else:
        holder.append(value)


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key or index) of every entry of nested JSON."""
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from places(content[key])


def refuse_or_read(read: Callable[[], Any], *files: Path) -> Any:
    """What `read` returns; None if it refuses, with one of the files in a ValueError or FileNotFoundError."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with processor_time(SECONDS):
            found = read()
    except TooLong as late:
        raise AssertionError(f"took {late}") from late
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError), f"{type(error).__name__}: {error}"
        assert any(str(file) in str(error) for file in files), f"no file in: {error}"
        assert len(str(error)) < 5_000
        found = None
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"took {grown:.0f} MB"
    return found


class TooLong(BaseException):
    """A time limit; no Exception, which a reader may take for damage of its file."""


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raise TooLong in the block once it has taken so many seconds of the processor."""

    def stop(*_: Any) -> None:
        raise TooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)

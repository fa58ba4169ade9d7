import io
import sys

import pytest
from rich.table import Table

from algorithms.terminal import allow_any_character, show


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def table(columns):
    table = Table("", *(f"rl-{i}" for i in range(columns)), title="[run] :smiley:")
    table.add_row("[bold]containment[/bold]", *[f"0.{i:04}" for i in range(columns)])
    return table


def test_numbers_are_whole_in_a_narrow_terminal(narrow, capsys):
    show(table(20), "a text")
    out = capsys.readouterr().out
    assert all(f"0.{i:04}" in out for i in range(20)) and "…" not in out and "a text" in out
    show(table(2))
    assert max(map(len, capsys.readouterr().out.splitlines())) < 80


def test_brackets_and_colons_of_a_name_are_no_markup(narrow, capsys):
    show(table(1))
    out = capsys.readouterr().out
    assert "[bold]containment[/bold]" in out and "[run] :smiley:" in out


def test_a_terminal_without_a_character_prints_another(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    allow_any_character()
    print("−1 ▲ σ é")
    stream.flush()
    assert stream.buffer.getvalue().split() == [b"-1", b"^", b"?", b"\xe9"]

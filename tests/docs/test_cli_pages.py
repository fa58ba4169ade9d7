"""The reference of the command line holds every command, and every option of each."""

import re
from dataclasses import fields
from importlib import import_module

import pytest
from cli_pages import COLUMNS, pages, wrap, write_pages

from algorithms.cli import COMMANDS
from algorithms.command_line import flag, nested_fields


@pytest.fixture(scope="module")
def reference():
    return pages()


def options(command) -> set[str]:
    """Flags of a command, nested ones with their group, as its config has them; positional arguments are none."""
    config = next(iter(import_module(COMMANDS[command]).PRESETS.values()))
    groups = {group.partition(".")[0] for group, _ in nested_fields(config)}
    own = [field.name for field in fields(config) if field.name not in groups and "Positional" not in str(field.type)]
    nested = {f"--{flag(group)}.{flag(name)}" for group, name in nested_fields(config)}
    return nested | {f"--{flag(name)}" for name in own}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_page_shows_every_option_and_no_colours(reference, command):
    page = reference[f"{'-'.join(command)}.md"]
    assert page.startswith(f"# cellfluxrl {' '.join(command)}\n") and "\x1b" not in page
    shown = {*re.findall(r"--[a-z][\w.-]*", page)}
    assert options(command) - shown == set()


def test_there_is_a_page_for_every_command_and_no_other(reference):
    assert {*reference} == {"-".join(command) + ".md" for command in COMMANDS}


def test_long_prose_is_wrapped_and_commands_are_not():
    prose, command = "word " * 40, "    cellfluxrl " + "x" * COLUMNS
    assert max(map(len, wrap(prose).splitlines())) <= COLUMNS and wrap(command) == command


def test_pages_are_written_once_and_old_ones_removed(tmp_path):
    class App:
        srcdir = tmp_path

    write_pages(App)
    (tmp_path / "cli" / "gone.md").write_text("# gone")
    before = (tmp_path / "cli" / "evaluate.md").stat().st_mtime_ns
    write_pages(App)
    assert not (tmp_path / "cli" / "gone.md").exists()
    assert (tmp_path / "cli" / "evaluate.md").stat().st_mtime_ns == before

"""From a command line to a config: `--preset NAME` chooses defaults, other flags override its fields.

A field of a nested config is `--optim.learning-rate`, or `--learning-rate` where one group alone has that name.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import tyro

Config = TypeVar("Config")


class Parsed(NamedTuple, Generic[Config]):
    """What a command line asks for."""

    config: Config
    dry_run: bool


def parse(
    presets: Mapping[str, Config], description: str | None, args: Sequence[str], *, prog: str | None = None
) -> Parsed[Config]:
    """The config that `args` ask for; the first preset is the default. Exits with code 2 on a wrong flag."""
    first = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=list(presets), default=next(iter(presets)))
    first.add_argument("--dry-run", action="store_true")
    chosen, rest = first.parse_known_args(args)
    default = presets[chosen.preset]
    usage = (
        f"{description or ''}\n\n"
        f"--preset {{{','.join(presets)}}} sets the defaults below (now: {chosen.preset}). --dry-run prints the config "
        "and estimates network evaluations, time and memory from a small part of the work. A prefix such as `optim.` "
        "may be left out where the rest of the name stands once."
    )
    config = tyro.cli(type(default), default=default, args=expand_flags(rest, default), description=usage, prog=prog)
    return Parsed(config, chosen.dry_run)


def expand_flags(args: Sequence[str], config: Any) -> list[str]:
    """`--learning-rate 1e-4` -> `--optim.learning-rate 1e-4`, where one nested group alone has a field of that name."""
    paths = list(nested_fields(config))
    count = Counter(name for _, name in paths)
    taken = {field.name for field in fields(config) if not is_dataclass(getattr(config, field.name))}
    unique = {flag(name): flag(group) for group, name in paths if count[name] == 1 and name not in taken}
    expanded = []
    for token in args:
        name, equals, value = token.partition("=")
        bare = name.removeprefix("--").replace("_", "-")
        group = unique.get(bare) or unique.get(bare.removeprefix("no-"))
        known = name.startswith("--") and group is not None
        expanded.append(f"--{group}.{bare}{equals}{value}" if known else token)
    return expanded


def nested_fields(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(group, name) of every field inside a nested dataclass; group is dotted."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from nested_fields(value, f"{prefix}{field.name}.")
        elif prefix:
            yield prefix.removesuffix("."), field.name


def flag(name: str) -> str:
    """A field's name on the command line."""
    return name.replace("_", "-")

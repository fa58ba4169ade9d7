"""The command line of the scripts here: `--preset NAME` chooses a config, other flags override its fields."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TypeVar

import tyro

Config = TypeVar("Config")


def parse(presets: Mapping[str, Config], description: str | None, args: Sequence[str] | None = None) -> Config:
    """The config that the command line asks for; the first preset is the default. args: sys.argv[1:] when None."""
    names = list(presets)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=names, default=names[0])
    chosen, rest = first.parse_known_args(args)
    usage = f"{description or ''}\n\n--preset {{{','.join(names)}}} sets the defaults below (now: {chosen.preset})"
    default = presets[chosen.preset]
    return tyro.cli(type(default), default=default, args=rest, description=usage)

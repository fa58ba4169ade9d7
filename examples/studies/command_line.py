"""Command line of the scripts. Light to import."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from algorithms.command_line import parse

Config = TypeVar("Config", bound=Any)


def parse_script(presets: Mapping[str, Config], description: str | None) -> Config:
    """Config from the arguments of this process; with --dry-run, print it and exit.

    Scripts call this before their heavy imports, so that --help is quick.
    """
    config, dry_run = parse(presets, description, sys.argv[1:])
    if dry_run:
        from algorithms.logs import flatten_config

        for name, value in flatten_config(asdict(config)).items():
            print(f"{name} = {value}")
        raise SystemExit
    return config

"""The command `cellfluxrl`: train, evaluate, choose the best of N, generate, score, fit, convert.

    cellfluxrl train nft --preset smoke
    cellfluxrl evaluate --help

A command's module holds its config, PRESETS, `main(config)` and `estimate(config)`, and imports nothing heavy before
one of the last two is called, so that `--help` is quick.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module

from algorithms.command_line import parse
from algorithms.recipes import ALGORITHMS

COMMANDS = {("train", name): module for name, module in ALGORITHMS.items()} | {
    ("train", "base"): "algorithms.recipes.base",
    ("evaluate",): "algorithms.evaluation.evaluate",
    ("best-of-n",): "algorithms.evaluation.best_of_n",
    ("generate",): "algorithms.evaluation.generate",
    ("score",): "algorithms.evaluation.score",
    ("fit", "classifier"): "algorithms.recipes.fit.classifier",
    ("fit", "segmenter"): "algorithms.recipes.fit.segmenter",
    ("fit", "reference"): "algorithms.recipes.fit.reference",
    ("convert",): "algorithms.recipes.convert",
}


def run(*command: str, args: Sequence[str] | None = None) -> None:
    """Run one command on these arguments; None takes those of the process."""
    module = import_module(COMMANDS[command])
    words = sys.argv[1:] if args is None else args
    config, dry_run = parse(module.PRESETS, module.__doc__, words, prog=" ".join(["cellfluxrl", *command]))
    if dry_run:
        from algorithms.logs import flatten_config

        for name, value in flatten_config(asdict(config)).items():
            print(f"{name} = {value}")
        print(f"\n{module.estimate(config)}")
    else:
        module.main(config)


def main(args: Sequence[str] | None = None) -> None:
    """Find the command in the first one or two words and run it."""
    words = list(sys.argv[1:] if args is None else args)
    for length in (2, 1):
        if (command := tuple(words[:length])) in COMMANDS:
            return run(*command, args=words[length:])
    inside = sorted(name for group, *rest in COMMANDS for name in rest if words[:1] == [group])
    asked_for_help = any(word in ("-h", "--help") for word in words) or not words
    print(usage(words[0], inside) if inside else usage("", [" ".join(c) for c in COMMANDS]))
    if not asked_for_help:
        wrong = " ".join(word for word in words[:2] if not word.startswith("-"))
        print(f"cellfluxrl: unknown command {wrong!r}", file=sys.stderr)
        raise SystemExit(2)
    return None


def usage(group: str, names: Sequence[str]) -> str:
    """The commands of a group, or all of them."""
    prefix = f"cellfluxrl {group} ".replace("  ", " ")
    return "usage:\n" + "\n".join(f"  {prefix}{name} [--preset NAME] [--dry-run] [--help]" for name in names)


if __name__ == "__main__":
    main()

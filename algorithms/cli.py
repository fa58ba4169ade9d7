"""The command `cellfluxrl`: prepare, check, train, evaluate and report, select, generate, score, fit, convert.

    cellfluxrl train nft --preset smoke
    cellfluxrl evaluate --help

A command's module holds its config, PRESETS, `main(config)` and `estimate(config)`, and imports nothing heavy before
one of the last two is called, so that `--help` is quick.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib import import_module

from algorithms.command_line import parse
from algorithms.interruption import plain_interrupts
from algorithms.provenance import library_version
from algorithms.recipes import ALGORITHMS
from algorithms.terminal import allow_any_character
from algorithms.user_errors import user_errors

COMMANDS = {("train", name): module for name, module in ALGORITHMS.items()} | {
    ("train", "distil"): "algorithms.recipes.distil",
    ("train", "base"): "algorithms.recipes.base",
    ("check",): "algorithms.inspection.check",
    ("evaluate",): "algorithms.evaluation.evaluate",
    ("report",): "algorithms.evaluation.pages.report_runs",
    ("best-of-n",): "algorithms.evaluation.best_of_n",
    ("generate",): "algorithms.evaluation.generate",
    ("score",): "algorithms.evaluation.score",
    ("fit", "classifier"): "algorithms.recipes.fit.classifier",
    ("fit", "segmenter"): "algorithms.recipes.fit.segmenter",
    ("fit", "reference"): "algorithms.recipes.fit.reference",
    ("prepare",): "algorithms.recipes.prepare",
    ("draw-plates",): "algorithms.recipes.draw_plates",
    ("convert",): "algorithms.recipes.convert",
}
ALONE = {("check",), ("report",), ("fit", "segmenter"), ("prepare",), ("draw-plates",), ("convert",)}


def run(*command: str, args: Sequence[str] | None = None) -> None:
    """Run one command on these arguments; None takes those of the process."""
    allow_any_character()
    module = import_module(COMMANDS[command])
    words = sys.argv[1:] if args is None else args
    prog = " ".join(["cellfluxrl", *command])
    config, dry_run = parse(module.PRESETS, module.__doc__, words, prog=prog)
    with user_errors(prog):
        if (dry_run or command in ALONE) and (started := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            what = f"{prog} --dry-run" if dry_run else prog
            raise ValueError(f"{what} works in one process, and {started} were started: start it without a launcher")
        if dry_run:
            from algorithms.logs import flatten_config

            for name, value in flatten_config(asdict(config)).items():
                print(f"{name} = {value}")
            print(f"\n{module.estimate(config)}")
            return
        from algorithms.files import check_writable
        from algorithms.presence import named_timeouts
        from algorithms.processes import run_and_leave
        from cellenv.streams import seed_global_streams

        for name in ("output_dir", "output", "out"):
            if hasattr(config, name):
                check_writable(getattr(config, name), folder=name != "output")
        seed_global_streams(getattr(config, "seed", None) or 0, int(os.environ.get("RANK", "0")))
        with plain_interrupts(), named_timeouts():
            run_and_leave(partial(module.main, config))


def main(args: Sequence[str] | None = None) -> None:
    """Run the command that the first one or two words name, or list the commands; exit with code 2 on any other."""
    words = list(sys.argv[1:] if args is None else args)
    for length in (2, 1):
        if (command := tuple(words[:length])) in COMMANDS:
            return run(*command, args=words[length:])
    if words == ["--version"]:
        return print(library_version())
    named = [word for word in words if not word.startswith("-")]
    group = sorted(command for command in COMMANDS if named and command[:-1] == tuple(named[:1]))
    print("usage:")
    for command in group or COMMANDS:
        print(f"  cellfluxrl {' '.join(command)} [--preset NAME] [--dry-run] [--help]")
    if named and not (group and len(named) == 1 and {"-h", "--help"} & {*words}):
        print(f"cellfluxrl: unknown command {' '.join(named[:2])!r}", file=sys.stderr)
        raise SystemExit(2)
    return None


if __name__ == "__main__":
    main()

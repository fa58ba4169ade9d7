"""What `cellfluxrl prepare` says at its end: what became of every plate, what was left out, and what comes next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from algorithms.terminal import STYLE, show
from cellenv.data.prepare.filters import REASONS
from cellenv.data.prepare.splits import HOW_TO_TEST
from cellenv.data.prepare.wells import CellRules
from cellenv.images import CHANNELS

SHOWN = 5  # names in a message

Counts = Mapping[str, Mapping[str, int]]  # of each plate, as `count_plates` gives them


def print_summary(out: Path, plates: Counts, manifest: Mapping[str, Any], rules: CellRules) -> None:
    """Print what became of every plate, what was left out, and the next command."""
    cells = {side: sum(counts.values()) for side, counts in manifest["cells"].items()}
    table = Table(title=f"{out}: {sum(cells.values()):,} cells, zoom {manifest['zoom']:g}", **STYLE)
    columns = ("wells", "fields", "nuclei", *REASONS, "cells")
    table.add_column("plate")
    for name in columns:
        table.add_column(name, justify="right")
    for plate, count in plates.items():
        table.add_row(plate, *(f"{count.get(name, 0):,}" for name in columns))
    show(table)
    for reason, names in manifest["fields_left_out"].items():
        print(f"{len(names):,} fields left out, {reason}: {shortened(names)}")
    unreadable = list(manifest["unreadable"].values())
    for message in unreadable[:SHOWN]:
        print(f"a field left out: {message}")
    if len(unreadable) > SHOWN:
        print(f"{len(unreadable) - SHOWN:,} more fields left out, listed in {out / 'manifest.json'}")
    if unpaired := manifest["wells_without_controls_in_their_split"]:
        print(f"{len(unpaired):,} wells left out, no control in their split: {shortened(unpaired)}")
    if held_out := manifest["unseen"]:
        print(f"held out, for --unseen: {', '.join(held_out)}")
    if not cells["test"]:
        print(f"no cell to test on: {HOW_TO_TEST}")
    print(f"{cells['train']:,} cells to train on, {cells['test']:,} to test on.", end=" ")
    print(f"Next: cellfluxrl score {out}{reading_flags(rules)}")


def no_cell_left(out: Path, plates: Counts) -> str:
    """What became of the nuclei, where none of a treated well is left."""
    total = sum(map(Counter, plates.values()), Counter())
    reasons = ", ".join(f"{total[reason]} {reason}" for reason in REASONS if total[reason])
    return (
        f"no treated cell is left: {total['nuclei']} nuclei in {total['fields']} fields, left out {reasons or 'none'}."
        f" Look at {out / 'contact_sheets'}; --nucleus-diameter, --crop, --min-area, --max-area, --max-blur matter"
    )


def shortened(names: Sequence[str]) -> str:
    """The first names, as text."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def reading_flags(rules: CellRules) -> str:
    """What a command that reads the cells must be told; nothing where the channels are actin, tubulin and DNA."""
    if rules.channels == CHANNELS and rules.nucleus == "DNA":
        return ""
    return f" --channels {','.join(rules.channels)} --nucleus {rules.nucleus} --cytoplasm STAIN"

"""Which channel of an image shows which stain, and which stains show nuclei and cells, as a user names them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellenv.data.layouts import Layout


def parse_stains(text: str) -> tuple[str, ...]:
    """Stains in the order of the channels.

    text: "Mito,AGP,RNA,ER,DNA"; or the number of each stain's channel, "DNA=5,RNA=3,ER=4,AGP=2,Mito=1", counted from
    any number; or a JSON file that holds such a list or mapping, also under the key `channel_mapping`.

    Raises:
        FileNotFoundError: there is no such JSON file.
        ValueError: a name is missing or stands twice, or a number is none or stands twice.
    """
    found = _read_json(Path(text)) if text.endswith(".json") else _split(text)
    if isinstance(found, Mapping):
        found = [name for name, _ in sorted(_numbers(found, text).items(), key=lambda pair: pair[1])]
    names = tuple(str(name).strip() for name in found)
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"need a different name for each channel, as Mito,AGP,RNA,ER,DNA; got {text!r}")
    return names


def choose_stains(
    layout: Layout, *, channels: str | None = None, nucleus: str | None = None, cytoplasm: str | None = None
) -> Layout:
    """The layout with other stains, or other roles of them. None keeps what the layout has.

    channels: see `parse_stains`. nucleus: a stain. cytoplasm: one or two stains, "AGP" or "AGP,ER".

    Raises:
        ValueError: a role is that of no channel, two roles share a stain, or `cytoplasm` names more than two.
    """
    chosen = replace(
        layout,
        stains=layout.stains if channels is None else parse_stains(channels),
        nucleus=layout.nucleus if nucleus is None else nucleus.strip(),
        cytoplasm=layout.cytoplasm if cytoplasm is None else parse_stains(cytoplasm),
    )
    roles = {"--nucleus": (chosen.nucleus,), "--cytoplasm": chosen.cytoplasm}
    for flag, stains in roles.items():
        if absent := [stain for stain in stains if stain not in chosen.stains]:
            raise ValueError(
                f"{', '.join(absent)} is none of the channels {', '.join(chosen.stains)}: give {flag} as one of these"
            )
    if len(chosen.cytoplasm) > 2 or chosen.nucleus in chosen.cytoplasm:
        raise ValueError(
            f"need one or two stains of the cytoplasm, other than that of the nucleus, {chosen.nucleus}; got"
            f" {', '.join(chosen.cytoplasm)}: give --cytoplasm, and the nucleus must not show in it"
        )
    return chosen


def _split(text: str) -> Sequence[str] | Mapping[str, str]:
    parts = text.split(",")
    return dict(part.split("=", 1) for part in parts) if all("=" in part for part in parts) else parts


def _numbers(mapping: Mapping[str, Any], text: str) -> dict[str, int]:
    try:
        numbers = {name: int(number) for name, number in mapping.items()}
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"need the number of each stain's channel, as DNA=5,RNA=3; got {text!r}") from None
    if len(set(numbers.values())) < len(numbers):
        raise ValueError(f"two stains have the channel of one number in {text!r}")
    return numbers


def _read_json(file: Path) -> Any:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {file.absolute()} with the order of the channels") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    found = content.get("channel_mapping", content) if isinstance(content, dict) else content
    if not isinstance(found, dict | list) or not found:
        raise ValueError(f"{file} needs a list of stains, or a mapping from stain to channel number; got {found!r}")
    return found

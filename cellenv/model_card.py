"""The model card of a generator, README.md in the form of the Hugging Face Hub, from what its config.json says.

Entries of the metadata that have a place in it; each may be absent, and others stay in config.json alone:

    license     name of the licence, as the Hub spells it: "apache-2.0"
    base        generator that training started from
    source      file that the weights were converted from
    data        the cells, in a sentence
    command     command line that made the weights
    version     of the library
    training    settings by name, or config
    rewards     list of {"label": text, "weight": number}
    evaluation  {"note": text, "columns": texts, "lines": lists of texts}, a table
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from cellenv.networks import UNetConfig

if TYPE_CHECKING:
    from cellenv.generator import Sampling

TEMPLATE = Path(__file__).with_suffix(".md")


def model_card(metadata: Mapping[str, Any], *, network: UNetConfig, sampling: Sampling, parameters: int) -> str:
    """Text of the card; what the metadata do not name, a licence above all, is said to be unknown.

    parameters: number of weights.

    Raises:
        ValueError: an entry of the metadata has another form than the table above says.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["cell"] = table_cell
    known = {name: metadata.get(name) for name in ("license", "base", "source", "data", "command", "version")}
    try:
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            **known,
            settings=metadata.get("training") or metadata.get("config") or {},
            rewards=metadata.get("rewards") or [],
            evaluation=metadata.get("evaluation"),
            network=network,
            sampling=sampling,
            parameters=f"{parameters:,}",
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise ValueError(
            f"the metadata make no model card: {error}; `cellenv.model_card` says what they hold"
        ) from error


def table_cell(value: object) -> str:
    """Text that stays in one cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")

"""Rewards as command-line terms: other weights, and rewards from functions of a module or a file."""

import re
from collections.abc import Sequence
from dataclasses import replace

from rewards.suite.importing import import_function
from rewards.suite.spec import SUITE, RewardSpec, custom_reward

FUNCTION_TERM = re.compile(r"(?P<source>.+\.py|[\w.]+):(?P<function>\w+)(?::(?P<weight>[^:]+))?")


def configure(terms: Sequence[str], suite: Sequence[RewardSpec] = SUITE) -> tuple[RewardSpec, ...]:
    """The suite with the changes that command-line terms ask for.

    Args:
        terms: each has one of these forms; the weight of a new reward is 1 if it is left out.
            NAME=WEIGHT                     another weight for a reward of the suite, in the total and in what is
                                            learned from; 0 leaves the reward out
            NAME=MODULE:FUNCTION[:WEIGHT]   a new reward from a function of a module, see `custom_reward`
            NAME=FILE.py:FUNCTION[:WEIGHT]  a new reward from a function of a file
        suite: what the terms change.

    Returns:
        The suite, then the new rewards in the order of the terms.

    Raises:
        ValueError: a term has another form, names no reward of the suite or no function, or comes twice; a
            weight is not finite; no reward is left.

    Example:
        >>> [spec.name for spec in configure(["roundness=0", "cell_size=0", "moa=2"])]
        ['moa', 'containment', 'nucleus_size', 'nucleus_count', 'cell_count']
    """
    if isinstance(terms, str):
        raise ValueError(f"need several terms, as in ({terms!r},); got the string {terms!r}")
    specs = {spec.name: spec for spec in suite}
    seen = set()
    for term in terms:
        name, _, value = term.partition("=")
        if name in seen:
            raise ValueError(f"two terms for the reward {name!r}; give one")
        seen.add(name)
        specs[name] = _parse_term(term, name, value, specs)
    chosen = tuple(spec for spec in specs.values() if spec.weight != 0)
    if not chosen:
        raise ValueError(f"no reward is left of {', '.join(specs)}: give one of them a weight other than 0")
    return chosen


def _parse_term(term: str, name: str, value: str, specs: dict[str, RewardSpec]) -> RewardSpec:
    """The reward of one term, NAME=VALUE."""
    weight = _as_float(value)
    if weight is not None:
        if name not in specs:
            known = ", ".join(specs)
            raise ValueError(f"unknown reward {name!r}; there are {known}. Add yours as NAME=MODULE:FUNCTION[:WEIGHT]")
        return replace(specs[name], weight=weight, emphasis=None)
    match = FUNCTION_TERM.fullmatch(value)
    if not name or match is None:
        forms = "NAME=WEIGHT, NAME=MODULE:FUNCTION[:WEIGHT] or NAME=FILE.py:FUNCTION[:WEIGHT]"
        raise ValueError(f"need {forms}; got {term!r}")
    if name in specs:
        raise ValueError(f"the suite has a reward {name!r}; give yours another name ({name}=0 leaves that one out)")
    weight = 1.0 if match["weight"] is None else _as_float(match["weight"])
    if weight is None:
        raise ValueError(f"the weight of the reward {name!r} needs to be a number, got {match['weight']!r}")
    return custom_reward(import_function(match["source"], match["function"]), name=name, weight=weight)


def _as_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

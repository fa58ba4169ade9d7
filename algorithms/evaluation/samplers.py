"""Rows that draw with a generator's weights by another sampler, and which rows differ by their training alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from algorithms.evaluation.compared import TAKEN
from cellenv.generator import CellFlux, Sampling


def add_sampler_rows(models: Mapping[str, CellFlux], entries: Sequence[str]) -> dict[str, CellFlux]:
    """The models, each followed by its rows with other sampler settings; they share its weights.

    entries: NAME=MODEL:SETTING=VALUE,... with MODEL one of the models, and SETTING a field of `Sampling`. What is not
    named is as MODEL draws.

    Raises:
        ValueError: an entry has another form, a model or setting is unknown, a value is out of range, or a name is
            taken.
    """
    added: dict[str, dict[str, CellFlux]] = {name: {} for name in models}
    taken = {*models, *TAKEN}
    for entry in entries:
        name, _, rest = entry.partition("=")
        source, colon, settings = rest.partition(":")
        if not name or not colon or source not in models:
            raise ValueError(
                f"need NAME=MODEL:SETTING=VALUE,... with a MODEL of {', '.join(models)}, as in "
                f"base-8=base:steps=8,guidance=0.2; got {entry!r}"
            )
        if name in taken:
            raise ValueError(f"need another NAME for each row; {name!r} of {entry!r} is taken")
        taken.add(name)
        model = models[source]
        sampling = parse_sampling(settings, model.sampling)
        added[source][name] = CellFlux(model.network, model.config, sampling).eval()
    return {row: model for name in models for row, model in {name: models[name], **added[name]}.items()}


def parse_sampling(text: str, default: Sampling) -> Sampling:
    """Sampler settings from "steps=8,guidance=0.2"; what is not named is the default's.

    Raises:
        ValueError: a setting is unknown, stands twice or has no value of its type, or `Sampling` refuses it.
    """
    known = asdict(default)
    given: dict[str, Any] = {}
    for setting in text.split(","):
        name, _, value = setting.partition("=")
        if name not in known or name in given:
            raise ValueError(f"need SETTING=VALUE once for settings of {', '.join(known)}; got {setting!r} in {text!r}")
        try:
            given[name] = type(known[name])(value)
        except ValueError:
            raise ValueError(f"need a number for {name}, as in {name}={known[name]}; got {setting!r}") from None
    return replace(default, **given)


def base_sampler_rows(models: Mapping[str, CellFlux]) -> list[str]:
    """Rows that draw with the weights of the row "base", by another sampler."""
    return [row for row, model in models.items() if row != "base" and model.network is models["base"].network]


def same_sampler_baselines(models: Mapping[str, CellFlux]) -> dict[str, str]:
    """By row, the row that draws with the base's weights by the same sampler, where that is not the row "base" itself.

    The difference of the two is what training did; to "base", what training and sampler did.
    """
    variants = base_sampler_rows(models)
    by_sampling = {models[row].sampling: row for row in reversed(["base", *variants])}  # the first of equal ones
    pairs = {row: by_sampling.get(model.sampling, "base") for row, model in models.items() if row not in variants}
    return {row: baseline for row, baseline in pairs.items() if baseline != "base"}

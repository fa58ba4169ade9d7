"""From a candidate to the config of its recipe."""

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from algorithms.config import PostTrainingConfig
from algorithms.recipes import ALGORITHMS
from examples.studies.comparison_config import Candidate, ComparisonConfig

WARMUP_ITERATIONS = 5  # the recipes' 20 would be half of a short run, and a quarter of one with cheap iterations
# DiffusionNFT with as many times an image as the other algorithms, and the rate that belongs to their noise: the six of
# its recipe would leave a budget of 50,000 NFE ten iterations.
SHORT_RUNS: Mapping[str, Mapping[str, object]] = {
    "nft": {"renoise.times_per_sample": 2, "loss.kl_share": 1.0, "optim.learning_rate": 1e-3}
}

AnyConfig = TypeVar("AnyConfig", bound=Any)


def recipe_of(candidate: Candidate) -> Any:
    """Recipe module of the candidate's algorithm."""
    return import_module(ALGORITHMS[candidate.algorithm])


def run_name(config: ComparisonConfig, candidate: Candidate) -> str:
    """Algorithm, and the options that differ from its defaults: "nft,loss.beta=0.1"."""
    default = candidate_config(config, replace(candidate, options={}), 0, config.output_dir)
    changed = {name: value for name, value in candidate.options.items() if value != option_of(default, name)}
    return ",".join([candidate.algorithm, *(f"{name}={_text(changed[name])}" for name in sorted(changed))])


def _text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def candidate_config(config: ComparisonConfig, candidate: Candidate, seed: int, output_dir: Path) -> PostTrainingConfig:
    """Config of the candidate's recipe; equally many images an iteration, in groups of any size.

    Raises:
        ValueError: the images do not form whole groups, or an option is no field of the config.
    """
    shared = {"rollout.group_size": config.group_size, "optim.warmup_iterations": WARMUP_ITERATIONS}
    options = {**shared, **SHORT_RUNS.get(candidate.algorithm, {}), **candidate.options}
    recipe_config = with_options(recipe_of(candidate).PRESETS["default"], options)
    group_size = recipe_config.rollout.group_size
    groups, rest = divmod(config.images, group_size)
    if rest or not groups:
        raise ValueError(f"need images in whole groups of {group_size}, got {config.images} an iteration")
    return replace(
        recipe_config,
        output_dir=output_dir,
        generator=config.generator,
        mixed_precision=config.mixed_precision,
        threads=config.threads,
        trackers=(),
        seed=seed,
        rollout=replace(recipe_config.rollout, groups=groups),
    )


def with_options(config: AnyConfig, options: Mapping[str, object]) -> AnyConfig:
    """Copy of a nested config with other values in the fields of these dotted names, such as "loss.beta".

    Raises:
        ValueError: the config has no field of that name.
    """
    for name, value in options.items():
        group, _, rest = name.partition(".")
        if group not in {field.name for field in fields(config)}:
            known = ", ".join(field.name for field in fields(config))
            raise ValueError(f"{type(config).__name__} has no field {group!r}; it has {known}")
        config = replace(config, **{group: with_options(getattr(config, group), {rest: value}) if rest else value})
    return config


def option_of(config: Any, name: str) -> object:
    """Value of the field with this dotted name."""
    for part in name.split("."):
        config = getattr(config, part)
    return config

"""From options to the config of a recipe, and the names of runs."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from algorithms.recipes import ALGORITHMS
from algorithms.recipes.nft import NFTConfig
from examples.studies.candidates import WARMUP_ITERATIONS, candidate_config, run_name, with_options
from examples.studies.comparison_config import ALGORITHM_NAMES, AlgorithmName, Candidate, ComparisonConfig

CONFIG = ComparisonConfig(output_dir=Path("out"), images=8, group_size=4)


def name(**fields) -> str:
    return run_name(CONFIG, Candidate(name="any", **fields))


def test_all_recipes_take_part():
    assert ALGORITHM_NAMES == get_args(AlgorithmName) == tuple(ALGORITHMS)


def test_options_replace_nested_fields_and_leave_the_others():
    config = with_options(NFTConfig(), {"loss.beta": 0.3, "optim.learning_rate": 2e-3, "seed": 7})
    assert (config.loss.beta, config.optim.learning_rate, config.seed) == (0.3, 2e-3, 7)
    back = with_options(config, {"loss.beta": 0.1, "optim.learning_rate": 8e-4, "seed": 0})
    assert back == NFTConfig()
    with pytest.raises(
        ValueError, match="NFTLossConfig has no field 'tau'; it has normalise, pretraining_weight, kl_weight"
    ):
        with_options(NFTConfig(), {"loss.tau": 1})


def test_a_candidate_overrides_what_all_runs_share():
    config = candidate_config(CONFIG, Candidate(name="n", options={"rollout.group_size": 2}), 5, Path("folder"))
    assert (config.rollout.groups, config.rollout.group_size, config.seed) == (4, 2, 5)
    assert (config.output_dir, config.trackers) == (Path("folder"), ())
    assert config.optim.warmup_iterations == WARMUP_ITERATIONS
    assert (config.renoise.times_per_sample, config.loss.kl_share) == (2, 1.0)  # runs are short
    with pytest.raises(ValueError, match="images in whole groups of 3, got 8"):
        candidate_config(CONFIG, Candidate(name="n", options={"rollout.group_size": 3}), 5, Path("folder"))


def test_a_run_is_named_after_what_differs_from_the_defaults():
    default = import_module(ALGORITHMS["nft"]).PRESETS["default"]
    same = {"loss.beta": default.loss.beta, "optim.warmup_iterations": WARMUP_ITERATIONS, "rollout.group_size": 4}
    assert name() == name(options=same) == "nft"
    assert name(options={"rollout.group_size": 2}) == "nft,rollout.group_size=2"
    assert name(options={"loss.kl_weight": 0.0, "loss.beta": 0.5}) == "nft,loss.beta=0.5,loss.kl_weight=0.0"
    assert name(options={"reward.terms": ("moa=1", "roundness=0")}) == "nft,reward.terms=moa=1+roundness=0"
    assert name(algorithm="rft", options={"loss.keep": 1}) == "rft,loss.keep=1"
    assert run_name(replace(CONFIG, group_size=2), Candidate(name="any", options=same)) != "nft"

"""Rows by another sampler: parsing, shared weights, and which rows are compared."""

import pytest
import torch

from algorithms.evaluation.samplers import (
    add_sampler_rows,
    base_sampler_rows,
    parse_sampling,
    same_sampler_baselines,
)
from cellenv.generator import Sampling
from tests.algorithms.evaluation.evaluation_toys import generator


@pytest.fixture
def models(data):
    return {"base": generator(data, 0.1), "rl": generator(data, 0.2), "other": generator(data, 0.3)}


def test_settings_that_are_not_named_stay():
    default = Sampling(noise_level=0.5, guidance=0.0, steps=6, grid="edm")
    found = parse_sampling("steps=8,guidance=0.2,solver=heun", default)
    assert found == Sampling(noise_level=0.5, guidance=0.2, steps=8, solver="heun", grid="edm") and found.nfe == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "need SETTING=VALUE once for settings of noise_level, guidance, guidance_power, guidance_from, steps"),
        ("step=8", "got 'step=8' in 'step=8'"),
        ("steps=8,steps=9", "got 'steps=9' in 'steps=8,steps=9'"),
        ("steps=8.5", "need a number for steps, as in steps=8; got 'steps=8.5'"),
        ("guidance=", "need a number for guidance"),
        ("guidance=-1", "guidance from 0"),
        ("solver=rk4", "need a solver of"),
    ],
)
def test_wrong_settings_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_sampling(text, Sampling())


def test_rows_follow_their_model_share_its_weights_and_leave_its_sampler(models):
    rows = add_sampler_rows(models, ["rl-8=rl:steps=8", "base-8=base:steps=8", "base-guided=base:guidance=0.2"])
    assert list(rows) == ["base", "base-8", "base-guided", "rl", "rl-8", "other"]
    assert rows["base-8"].network is models["base"].network and rows["rl-8"].network is models["rl"].network
    assert [row.sampling.nfe for row in rows.values()] == [1, 8, 2, 1, 8, 1]
    assert not rows["base-8"].training


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("base-8", "need NAME=MODEL:SETTING=VALUE"),
        ("=base:steps=8", "need NAME=MODEL:SETTING=VALUE"),
        ("base-8=base", "need NAME=MODEL:SETTING=VALUE"),
        ("x=y:steps=8", "with a MODEL of base, rl, other"),
        ("rl=base:steps=8", "'rl' of 'rl=base:steps=8' is taken"),
        ("real=base:steps=8", "'real' of 'real=base:steps=8' is taken"),
    ],
)
def test_wrong_entries_are_named(models, entry, message):
    with pytest.raises(ValueError, match=message):
        add_sampler_rows(models, [entry])
    with pytest.raises(ValueError, match=r"'a' of .* is taken"):
        add_sampler_rows(models, ["a=base:steps=8", "a=rl:steps=8"])


def test_a_row_is_compared_with_the_base_by_the_same_sampler(models):
    assert same_sampler_baselines(models) == {} and base_sampler_rows(models) == []
    entries = ["base-8=base:steps=8", "again=base:steps=8", "same=base:steps=1", "rl-8=rl:steps=8", "rl-9=rl:steps=9"]
    rows = add_sampler_rows(models, entries)
    assert base_sampler_rows(rows) == ["base-8", "again", "same"]
    assert same_sampler_baselines(rows) == {"rl-8": "base-8"}


def test_a_model_saved_with_another_sampler_finds_its_baseline(models):
    models["other"].steps = 8
    assert same_sampler_baselines(add_sampler_rows(models, ["base-8=base:steps=8"])) == {"other": "base-8"}


def test_a_row_draws_by_its_own_sampler(models, data):
    rows = add_sampler_rows(models, ["still=base:noise_level=0"])
    contexts = data.contexts(data.treated[:2], torch.Generator().manual_seed(0))
    x0, condition, seed = (contexts[key] for key in ("x0", "condition", "seed"))
    assert torch.equal(rows["still"].sample(x0, condition, seed)[1], x0)
    assert not torch.equal(rows["base"].sample(x0, condition, seed)[1], x0)

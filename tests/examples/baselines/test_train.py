"""Training of the baselines: runs repeat, resume, cost as much as the base, and end as generators."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from algorithms.checkpoint import load_up_to
from algorithms.recipes.base import BaseConfig, PairConfig
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNetConfig
from examples.baselines import learners, train
from examples.baselines.loading import BASELINES, load_generator
from tests.cellenv.toy_cells import ToyCells

pytestmark = pytest.mark.usefixtures("seeded")
BASE = partial(BaseConfig, steps=3, batch_size=6)


@pytest.fixture(autouse=True)
def small(monkeypatch, fresh_accelerate):
    tiny = UNetConfig(condition_dim=5, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0)
    monkeypatch.setitem(NETWORKS, "embedded", tiny)
    monkeypatch.setattr(learners.PhenDiff.__init__, "__defaults__", (2,))  # DDIM steps
    monkeypatch.setattr(learners, "IMPAConfig", partial(learners.IMPAConfig, width=4, levels=2, style_dim=8))
    monkeypatch.setattr(train, "build_data", lambda config: (ToyCells(), ToyCells()))
    monkeypatch.setattr(train, "BaseConfig", BASE)


@pytest.fixture(params=["phendiff", "impa"])
def config(request, tmp_path):
    return replace(
        train.SMOKE,
        model=request.param,
        output_dir=tmp_path / "run",
        threads=1,
        mixed_precision="no",
        steps=3,
        learning_rate=1e-3,
    )


def weights(config):
    return load_file(config.output_dir / "model" / "model.safetensors")


def metadata(config):
    return json.loads((config.output_dir / "model" / "config.json").read_text())["metadata"]


def equal(first, second):
    return all(value.equal(second[name]) for name, value in first.items())


def test_a_run_ends_with_a_generator_and_repeats(config, tmp_path):
    train.main(config)
    model, data = load_generator(config.output_dir / "model"), ToyCells()
    assert type(model) is BASELINES[config.model]
    contexts = data.draw_contexts(5, torch.Generator().manual_seed(0))
    x1, _ = model.sample(contexts["x0"], contexts["condition"], contexts["seed"])
    assert x1.shape == (5, *data.size) and x1.isfinite().all()
    saved = metadata(config)
    assert saved["steps"] == 3 and saved["config"]["output_dir"] == str(config.output_dir)
    assert sorted(file.name for file in config.output_dir.glob("*.png")) == ["samples-000002.png", "samples-000003.png"]
    torch.manual_seed(99)  # the global stream must not matter
    again, other = (replace(config, output_dir=tmp_path / f"{seed}", seed=seed) for seed in (0, 1))
    train.main(again)
    train.main(other)
    assert equal(weights(config), weights(again)) and not equal(weights(config), weights(other))


def test_the_averaged_weights_are_saved(config):
    train.main(config)
    parts = load_up_to(config.output_dir / "checkpoints", config.steps)["parts"]
    saved = dict(load_generator(config.output_dir / "model").named_parameters())
    assert equal(saved, parts["ema"]["average"]) and not equal(saved, parts["model"])


def test_steps_have_the_factors_of_the_schedule_and_mirrored_images(config, tmp_path, monkeypatch):
    factors, images = [], []

    def step(self, pairs, rng, factor, progress):
        factors.append(factor)
        images.append(pairs.x0)
        return {"loss": 0.0}

    monkeypatch.setattr(train, "step_flops", lambda *args: 1)
    monkeypatch.setattr(train.LEARNERS[config.model], "step", step)
    run = replace(config, steps=10, warmup_steps=4, cooldown=0.4, save_every=10)
    for flip in (0.0, 1.0):
        train.main(replace(run, flip=flip, output_dir=tmp_path / str(flip)))
    assert factors == 2 * [0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert torch.cat(images[10:]).equal(torch.cat(images[:10]).flip(2, 3))


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_parts(config, monkeypatch):
    now = [0.0]
    learner = train.LEARNERS[config.model]

    def step(self, pairs, rng, factor, progress):
        if progress == 0.75 and now[0] < 100:  # the last step of four; there is a checkpoint after the second
            raise KeyboardInterrupt
        now[0] += 10
        return {"loss": 0.0}

    monkeypatch.setattr(train, "perf_counter", lambda: now[0])
    monkeypatch.setattr(train, "step_flops", lambda *args: 1)
    monkeypatch.setattr(learner, "step", step)
    run = replace(config, steps=4)
    with pytest.raises(KeyboardInterrupt):
        train.main(run)
    now[0] = 1000.0
    train.main(replace(run, resume=True))
    assert metadata(run)["seconds"] == 40


def test_a_stopped_run_resumes_bit_for_bit(config, tmp_path, monkeypatch):
    whole = replace(config, steps=6, output_dir=tmp_path / "whole")
    train.main(whole)
    stopped = replace(whole, output_dir=tmp_path / "stopped")
    learner = train.LEARNERS[config.model]
    step = learner.step

    def until(self, pairs, rng, factor, progress):
        if progress > 0.7:  # in the sixth step; there is a checkpoint after the fourth
            raise KeyboardInterrupt
        return step(self, pairs, rng, factor, progress)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(learner, "step", until)
        train.main(stopped)
    with pytest.raises(ValueError, match=r"learning_rate=0\.001, now 0\.002"):
        train.main(replace(stopped, resume=True, learning_rate=2e-3))
    train.main(replace(stopped, resume=True))
    assert equal(weights(whole), weights(stopped))
    with pytest.raises(FileNotFoundError, match="leave out --resume"):
        train.main(replace(whole, output_dir=tmp_path / "nothing", resume=True))


def test_a_run_in_a_used_folder_sets_the_other_aside(config, tmp_path):
    train.main(config)
    first = weights(config)
    train.main(replace(config, seed=1))
    assert equal(first, weights(replace(config, output_dir=tmp_path / "run.1")))
    assert not equal(first, weights(config))


def test_the_seed_decides_the_batches_too(config, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "seed_at", lambda *key: 5)  # equal initial weights
    runs = [replace(config, output_dir=tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
    for run in runs:
        train.main(run)
    assert not equal(*map(weights, runs))


def test_without_steps_a_run_costs_what_the_base_costs(config):
    train.main(replace(config, steps=None))
    saved = metadata(config)
    per_step = saved["flops"] / saved["steps"]
    assert saved["flops"] >= saved["flops_of_the_base"] > saved["flops"] - per_step


def test_values_that_are_given_replace_those_of_the_model():
    both = [train.with_model_defaults(train.BaselineConfig(model=name)) for name in ("phendiff", "impa")]
    assert both[0].batch_size != both[1].batch_size and both[0].learning_rate > both[1].learning_rate
    given = train.with_model_defaults(train.BaselineConfig(model="impa", batch_size=5, learning_rate=0.5))
    assert (given.batch_size, given.learning_rate) == (5, 0.5)


@pytest.mark.parametrize("name", ["steps", "batch_size", "save_every", "learning_rate", "save_minutes"])
def test_nothing_is_no_default(name):
    with pytest.raises(ValueError, match=f"{name} must be (at least 1|above 0), got 0"):
        train.BaselineConfig(**{name: 0})


def test_the_cost_of_the_base_grows_with_steps_and_guidance():
    data, device = ToyCells(), torch.device("cpu")
    once, thrice = (train.base_flops(BASE(steps=k), data, device) for k in (1, 3))
    guided = train.base_flops(BASE(steps=1, pairs=PairConfig(guidance=0.7)), data, device)
    assert thrice == 3 * once and guided > 1.2 * once  # guidance costs a forward pass


def test_pairs_run_from_control_to_treated_image_of_one_plate():
    data = ToyCells()
    pairs = train.draw_pairs(data, 64, torch.Generator().manual_seed(0), 0.0)
    source, sample = (
        torch.tensor([int((data.pixels == x).flatten(1).all(1).nonzero()) for x in images])
        for images in (pairs.x0, pairs.x1)
    )
    assert (data.perturbation[source] == -1).all() and data.perturbation[sample].equal(pairs.compound)
    assert data.plate[source].equal(data.plate[sample]) and pairs.condition.equal(data.conditions[pairs.compound])


def test_images_of_a_pair_are_mirrored_alone_as_often_as_is_asked():
    plain, all_mirrored, some = (
        train.draw_pairs(ToyCells(), 64, torch.Generator().manual_seed(0), flip) for flip in (0.0, 1.0, 0.5)
    )
    for name in ("x0", "x1"):
        assert getattr(all_mirrored, name).equal(getattr(plain, name).flip(2, 3))
    same = [(getattr(some, name) == getattr(plain, name)).flatten(1).all(1) for name in ("x0", "x1")]
    assert (same[0] & ~same[1]).any() and (same[1] & ~same[0]).any()

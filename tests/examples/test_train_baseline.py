"""The training script of the baselines: both learn, repeat, cost what the base costs, and end as rows of the table."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from test_train_base import FewCells
from torch import nn

from cellenv.networks import PRESETS, UNetConfig

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def script(monkeypatch, request, fresh_accelerate):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import train_baseline
    from baselines import learners

    tiny = UNetConfig(condition_dim=4, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0)
    monkeypatch.setitem(PRESETS, "embedded", tiny)
    monkeypatch.setattr(train_baseline, "load_data", lambda config: (FewCells(), FewCells()))
    monkeypatch.setattr(train_baseline.base_config, "DEFAULT", train_baseline.base_config.Config(steps=3, batch_size=6))
    monkeypatch.setattr(learners.PhenDiff.__init__, "__defaults__", (2,))  # DDIM steps
    small = partial(learners.IMPAConfig, width=4, levels=2, style=8)
    monkeypatch.setattr(learners, "IMPAConfig", small)
    return train_baseline


@pytest.fixture
def learners(script):
    from baselines import learners

    return learners


@pytest.fixture(params=["phendiff", "impa"])
def config(script, tmp_path, request):
    options = {"output_dir": tmp_path / "run", "threads": 1, "mixed_precision": "no", "steps": 3, "lr": 1e-3}
    return replace(script.SMOKE, model=request.param, **options)


def weights(config):
    return load_file(config.output_dir / "model" / "model.safetensors")


def test_a_run_ends_with_a_generator_and_repeats(script, config, tmp_path):
    from baselines import BASELINES, load_generator

    script.main(config)
    model, data = load_generator(config.output_dir / "model"), FewCells()
    assert type(model) is BASELINES[config.model]
    scene = data.draw_contexts(5, torch.Generator().manual_seed(0))
    x1, _ = model.sample(scene["x0"], scene["condition"], scene["seed"])
    assert x1.shape == (5, *data.size) and x1.isfinite().all()
    metadata = json.loads((config.output_dir / "model" / "config.json").read_text())["metadata"]
    assert metadata["steps"] == 3 and metadata["config"]["output_dir"] == str(config.output_dir)
    assert sorted(file.name for file in config.output_dir.glob("*.png")) == ["samples-000002.png", "samples-000003.png"]
    torch.manual_seed(99)  # the global state has no say
    again, other = (replace(config, output_dir=tmp_path / f"{seed}", seed=seed) for seed in (0, 1))
    script.main(again), script.main(other)
    first, same, differs = map(weights, (config, again, other))
    assert all(first[name].equal(same[name]) for name in first)
    assert not all(first[name].equal(differs[name]) for name in first)


def test_a_run_that_was_stopped_goes_on(script, config, tmp_path, monkeypatch):
    whole = replace(config, steps=6, output_dir=tmp_path / "whole")
    script.main(whole)
    stopped, step = replace(whole, output_dir=tmp_path / "stopped"), script.LEARNERS[config.model].step

    def until(learner, batch, rng, factor, progress):
        if progress > 0.7:  # in the sixth step; a checkpoint stands after the fourth
            raise KeyboardInterrupt
        return step(learner, batch, rng, factor, progress)

    monkeypatch.setattr(script.LEARNERS[config.model], "step", until)
    with pytest.raises(KeyboardInterrupt):
        script.main(stopped)
    monkeypatch.setattr(script.LEARNERS[config.model], "step", step)
    with pytest.raises(ValueError, match=r"lr=0\.001, now 0\.002"):
        script.main(replace(stopped, resume=True, lr=2e-3))
    script.main(replace(stopped, resume=True))
    assert all(value.equal(weights(stopped)[name]) for name, value in weights(whole).items())
    with pytest.raises(FileNotFoundError, match="leave out --resume"):
        script.main(replace(whole, output_dir=tmp_path / "nothing", resume=True))


def test_the_seed_names_the_batches_too(script, config, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "seed_at", lambda *key: 5)  # equal weights to start from
    runs = [replace(config, output_dir=tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
    for run in runs:
        script.main(run)
    first, other = map(weights, runs)
    assert not all(first[name].equal(other[name]) for name in first)


def test_without_steps_the_cost_is_that_of_the_base(script, config, monkeypatch):
    monkeypatch.setattr(script, "step_flops", lambda *_: 10)
    monkeypatch.setattr(script, "base_flops", lambda *_: 35)
    script.main(replace(config, steps=None))
    metadata = json.loads((config.output_dir / "model" / "config.json").read_text())["metadata"]
    assert metadata["steps"] == 4 and metadata["flops"] == 40 and metadata["flops_of_the_base"] == 35


def test_each_model_has_its_own_batch_and_learning_rate(script):
    told = script.filled(script.Config(model="impa", batch_size=5, lr=0.5))
    assert (told.batch_size, told.lr) == (5, 0.5)
    usual = [script.filled(script.Config(model=name)) for name in ("phendiff", "impa")]
    assert [(config.batch_size, config.lr) for config in usual] == [(48, 2e-3), (16, 2e-4)]


def test_cost_is_counted_in_operations(script):
    from baselines.cost import flops

    layer, x = nn.Linear(5, 7, bias=False), torch.randn(3, 5, requires_grad=True)
    assert flops(lambda: layer(x)) == 2 * 3 * 5 * 7
    assert flops(lambda: layer(x).sum().backward()) == 3 * 2 * 3 * 5 * 7  # the two gradients cost as much each
    conv = nn.Conv2d(2, 4, 3, padding=1)
    assert flops(lambda: conv(torch.zeros(1, 2, 6, 6))) == 2 * 36 * 9 * 2 * 4
    data, device = FewCells(), torch.device("cpu")
    once, thrice = (script.base_flops(script.base_config.Config(steps=k), data, device) for k in (1, 3))
    plain = script.base_flops(script.base_config.Config(steps=1, guidance=0.0), data, device)
    assert thrice == 3 * once and once > 1.2 * plain  # guidance costs a pass


def test_phendiff_learns(script, learners):
    accelerator, data = script.start_accelerator(mixed_precision="no", threads=1), FewCells()
    learner = learners.LearnPhenDiff(data, accelerator, 5e-3)
    batch = script.draw_batch(data, 8, torch.Generator().manual_seed(0), 0.0)
    losses = [learner.step(batch, torch.Generator().manual_seed(1), 1.0, 0.0)["loss"] for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]


def test_impa_learns_what_the_treated_images_have_in_common(script, learners):
    accelerator, data = script.start_accelerator(mixed_precision="no", threads=1), FewCells()
    learner = learners.LearnIMPA(data, accelerator, 2e-3)
    dark, bright = (0.1 * torch.randn(8, *data.size) + level for level in (-0.5, 0.5))
    batch = learners.Batch(dark, bright, data.conditions[[0, 1] * 4], torch.tensor([0, 1] * 4))
    before = learner.model.sample(dark, batch.condition, torch.arange(8))[0].mean()
    for step in range(40):
        learner.step(batch, torch.Generator().manual_seed(step), 1.0, 0.0)
    after = learner.model.sample(dark, batch.condition, torch.arange(8))[0].mean()
    assert after > before + 0.2


def test_without_a_learning_rate_nothing_moves(script, config):
    accelerator, data = script.start_accelerator(mixed_precision="no", threads=1), FewCells()
    learner = script.LEARNERS[config.model](data, accelerator, 5e-3)
    batch = script.draw_batch(data, 8, torch.Generator().manual_seed(0), 0.0)
    still = [parameter.clone() for parameter in learner.model.parameters()]
    learner.step(batch, torch.Generator().manual_seed(1), 0.0, 0.0)
    assert all(a.equal(b) for a, b in zip(still, learner.model.parameters(), strict=True))


def test_variety_loses_its_weight_over_the_training(script, learners):
    accelerator, data = script.start_accelerator(mixed_precision="no", threads=1), FewCells()
    learner, batch = learners.LearnIMPA(data, accelerator, 1e-3), script.draw_batch(data, 4, torch.Generator(), 0.0)
    start, middle = (learner.step(batch, torch.Generator(), 0.0, progress)["variety"] for progress in (0.0, 0.75))
    assert start < 0 and middle == pytest.approx(start / 4)


def test_phendiff_sees_controls_without_a_condition(script, learners, monkeypatch):
    accelerator, data = script.start_accelerator(mixed_precision="no", threads=1), FewCells()
    learner, seen = learners.LearnPhenDiff(data, accelerator, 1e-3), []
    monkeypatch.setattr(learner.model, "u", lambda x, phi, condition, keep: seen.append((condition, keep)) or x * 0)
    monkeypatch.setattr(learners, "phendiff_loss", lambda u, images, n, t: u(images, t).sum((1, 2, 3)) + images.mean())
    batch, shown = script.draw_batch(data, 400, torch.Generator(), 0.0), []
    inner = learners.phendiff_loss
    monkeypatch.setattr(learners, "phendiff_loss", lambda u, x, n, t: shown.append(x) or inner(u, x, n, t))
    monkeypatch.setattr(accelerator, "backward", lambda loss: None)
    learner.step(batch, torch.Generator().manual_seed(0), 0.0, 0.0)
    (condition, keep), (images,) = seen[0], shown
    assert condition is batch.condition and keep.double().mean() == pytest.approx(0.75, abs=0.06)
    assert images[keep].equal(batch.x1[keep]) and images[~keep].equal(batch.x0[~keep])


def test_batches_run_from_control_to_treated_of_one_batch(script):
    data = FewCells()
    batch = script.draw_batch(data, 64, torch.Generator().manual_seed(0), 0.0)
    source, sample = (
        torch.tensor([int((data.pixels == x).flatten(1).all(1).nonzero()) for x in images]) for images in batch[:2]
    )
    assert (data.perturbation[source] == -1).all() and data.perturbation[sample].equal(batch.compound)
    assert data.batch[source].equal(data.batch[sample]) and batch.condition.equal(data.conditions[batch.compound])

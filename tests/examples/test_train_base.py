import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cellenv.data.cells import CellData
from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS, UNetConfig


class FewCells(CellData):
    """Noise: 24 images, two compounds; a control's first pixel is -1 and a treated image's 1."""

    channels = ("actin", "tubulin", "DNA")
    size = (3, 8, 8)
    compounds = moas = ("a", "b")
    compound_moa = torch.tensor([0, 1])

    def __init__(self):
        rng = torch.Generator().manual_seed(0)
        self.perturbation = torch.arange(24) % 3 - 1
        self.batch = torch.arange(24) // 12
        self.keys = tuple(map(str, range(24)))
        self.conditions = torch.randn(2, 4, generator=rng)
        self.pixels = torch.rand(24, *self.size, generator=rng) * 1.8 - 0.9
        self.pixels[:, 0, 0, 0] = torch.where(self.perturbation < 0, -1.0, 1.0)

    def images(self, rows):
        return self.pixels[rows]


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import train_base

    tiny = UNetConfig(condition_dim=4, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.1)
    for name in ("embedded", "cellflux-bbbc021"):
        monkeypatch.setitem(PRESETS, name, tiny)
    monkeypatch.setattr(train_base, "load_data", lambda config: (FewCells(), FewCells()))
    return train_base


@pytest.fixture(autouse=True)
def networks(script, monkeypatch):
    """What distances are taken in, to be changed by a test."""
    import base_validation

    networks = {"judge": lambda images: images.mean((2, 3))}
    monkeypatch.setattr(base_validation, "feature_networks", lambda config, device: networks)
    return networks


@pytest.fixture
def config(script, tmp_path):
    options = {"steps": 8, "draw_every": 4, "threads": 1, "mixed_precision": "no", "lr": 0.01}
    return replace(script.PRESETS["smoke"], output_dir=tmp_path / "run", **options)


def weights(folder, steps):
    return load_file(folder / f"generator-{steps:06d}" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_run_ends_with_a_generator_that_says_how_it_was_made(script, config):
    script.main(config)
    folder = config.output_dir / "generator-000008"
    generator = CellFlux.from_pretrained(folder)
    assert generator.config.condition_dim == 4
    metadata = json.loads((folder / "config.json").read_text())["metadata"]
    assert metadata["config"]["steps"] == 8
    assert [point["step"] for point in metadata["validation"]] == [4, 8]
    assert (config.output_dir / "samples-000008.png").exists()


def test_history_tells_the_distances_of_the_averaged_weights(script, config, networks):
    from likeness import Likeness

    networks["inception"] = lambda images: images.std((2, 3))
    script.main(config)
    folder = config.output_dir / "generator-000008"
    metadata = json.loads((folder / "config.json").read_text())["metadata"]
    likeness = Likeness.of(FewCells(), networks, contexts=config.validation, seed=config.seed, device="cpu")
    told = {"frechet", "kernel", "frechet_inception", "kernel_inception"}
    assert all(point.keys() == told | {"step", "validation_loss"} for point in metadata["validation"])
    last = metadata["validation"][-1]
    assert {name: last[name] for name in told} == pytest.approx(likeness(CellFlux.from_pretrained(folder)), abs=2e-6)
    assert metadata["real"] == likeness.floor and likeness.floor.keys() == told
    assert (config.output_dir / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_validation_leaves_the_training_alone(script, config, networks, tmp_path):
    script.main(config)
    networks.clear()
    seldom = replace(config, output_dir=tmp_path / "seldom", draw_every=8)
    script.main(seldom)
    metadata = json.loads((seldom.output_dir / "generator-000008" / "config.json").read_text())["metadata"]
    assert metadata["validation"][-1].keys() == {"step", "validation_loss"} and metadata["real"] == {}
    assert same(weights(config.output_dir, 8), weights(seldom.output_dir, 8))


def test_the_default_preset_is_the_one_that_made_the_shipped_weights(script):
    file = Path(__file__).parents[2] / "cellenv/assets/embedded/config.json"
    made = json.loads(file.read_text())["metadata"]["config"] | {"trackers": ()}
    default = asdict(script.PRESETS["default"])
    default["output_dir"] = str(default["output_dir"])
    assert default | made == default  # what was added since does nothing by default
    assert default["optimizer"] == "muon" and default["sampling"] == "default" and not default["dequantise"]


def test_the_published_recipe_steps_as_adamw_at_a_constant_rate(script, config):
    from base_run import lr_factor

    steps = ("steps", "batch_size", "validation", "output_dir", "threads", "mixed_precision")
    recipe = replace(script.PRESETS["cellflux"], **{name: getattr(config, name) for name in steps})
    assert {lr_factor(step, 500, recipe.warmup, recipe.cooldown) for step in range(500)} == {1.0}
    accelerator = script.start_accelerator(mixed_precision="no", threads=1)
    run = script.Run(recipe, accelerator, FewCells(), FewCells())
    before = {name: p.detach().clone() for name, p in run.generator.named_parameters()}
    run.step(0, slice(None))
    moved = 0
    for name, after in run.generator.named_parameters():  # the first step of AdamW: lr sign(g), beside the decay
        step = after.detach() - before[name] * (1 - 1e-4 * 0.01)
        there = after.grad.abs() > 1e-5
        moved += int(there.sum())
        torch.testing.assert_close(step[there], -1e-4 * after.grad.sign()[there], rtol=2e-3, atol=1e-7)
    assert moved > 100
    assert run.optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert run.generator.sampling == SAMPLINGS["cellflux"]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_stop_and_resume_is_bit_for_bit(script, config, monkeypatch, tmp_path, optimizer):
    config = replace(config, optimizer=optimizer)
    script.main(config)
    stopped = replace(config, output_dir=tmp_path / "stopped")
    step = script.Run.step

    def killed(run, number, share):
        if number == 5:
            raise KeyboardInterrupt
        return step(run, number, share)

    monkeypatch.setattr(script.Run, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        script.main(stopped)
    monkeypatch.setattr(script.Run, "step", step)
    torch.manual_seed(123)  # another process has another global state
    script.main(replace(stopped, resume=True))
    assert same(weights(config.output_dir, 8), weights(stopped.output_dir, 8))
    histories = [run.output_dir / "generator-000008" / "config.json" for run in (config, stopped)]
    first, second = (json.loads(file.read_text())["metadata"]["validation"] for file in histories)
    assert first == second


def test_another_optimizer_cannot_go_on(script, config):
    script.main(config)
    with pytest.raises(ValueError, match="was trained by muon, not adamw"):
        script.main(replace(config, optimizer="adamw", resume=True))


@pytest.mark.parametrize("cooldown", [0.5, 0.0])
def test_more_steps_go_on_from_before_the_cooldown(script, config, tmp_path, cooldown):
    longer = replace(config, steps=12, cooldown=cooldown)
    script.main(longer)
    extended = replace(longer, output_dir=tmp_path / "extended", steps=8)
    script.main(extended)
    script.main(replace(extended, steps=12, resume=True))
    assert same(weights(longer.output_dir, 12), weights(extended.output_dir, 12))
    assert not same(weights(extended.output_dir, 8), weights(extended.output_dir, 12))


def test_nothing_to_resume(script, config):
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume"):
        script.main(replace(config, resume=True))


def test_learning_rate(script):
    from base_run import lr_factor

    factors = [lr_factor(step, 100, 10, 0.2) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[10:81] == [1.0] * 71
    assert factors[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from algorithms import checkpoint
from algorithms.config import DataConfig
from algorithms.evaluation.feature_distances import FeatureDistances
from algorithms.launch import start_accelerator
from algorithms.recipes import base_training, base_validation
from algorithms.recipes.base import PRESETS
from algorithms.recipes.base_training import (
    BaseTraining,
    build_data,
    estimate_base,
    train_base,
)
from algorithms.recipes.flow_matching_data import TRAINING
from algorithms.schedule import learning_rate_factor
from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS as NETWORKS
from cellenv.streams import rng_at
from cellenv.weights_io import load_weights
from tests.algorithms.recipes.base_toys import TINY_BASE, FewCells, saved_weights


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    """Train a tiny network on few cells, without the slow picture of curves.

    Returns the feature networks of the validation, to be changed by a test.
    """
    networks = {"judge": lambda images: images.mean((2, 3))}
    for name in ("embedded", "cellflux-bbbc021"):
        monkeypatch.setitem(NETWORKS, name, TINY_BASE)
    monkeypatch.setattr(base_training, "build_cells", lambda config, split: FewCells())
    monkeypatch.setattr(base_validation, "feature_networks", lambda config, device: networks)
    monkeypatch.setattr(base_training, "plot_curves", lambda history, floor: f"{len(history)} {floor}".encode())
    return networks


@pytest.fixture
def config(tmp_path):
    smoke = PRESETS["smoke"]
    return replace(
        smoke,
        output_dir=tmp_path / "run",
        steps=8,
        threads=1,
        mixed_precision="no",
        optim=replace(smoke.optim, learning_rate=0.01),
        validation=replace(smoke.validation, draw_every=4),
    )


def metadata(config):
    file = config.output_dir / f"generator-{config.steps:06d}" / "config.json"
    return json.loads(file.read_text())["metadata"]


def test_a_run_ends_with_a_generator_that_records_how_it_was_made(config):
    train_base(config)
    generator = CellFlux.from_pretrained(config.output_dir / "generator-000008")
    assert generator.config.condition_dim == 4 and generator.noise_level == config.pairs.noise_level
    assert metadata(config)["config"]["steps"] == 8 and metadata(config)["license"] == "apache-2.0"
    card = (config.output_dir / "generator-000008" / "README.md").read_text()
    assert "| steps | 8 |" in card and metadata(config)["command"] in card and "procedural pictures" in card
    assert [point["step"] for point in metadata(config)["validation"]] == [4, 8]
    assert (config.output_dir / "samples-000008.png").exists()


def test_the_history_holds_the_distances_of_the_averaged_weights(config, networks):
    networks["inception"] = lambda images: images.std((2, 3))
    train_base(config)
    contexts = config.validation.pairs
    distances = FeatureDistances.create(FewCells(), networks, contexts=contexts, seed=config.seed, device="cpu")
    names = {"frechet", "kernel", "frechet_inception", "kernel_inception"}
    record = metadata(config)
    assert all(point.keys() == names | {"step", "validation_loss"} for point in record["validation"])
    expected = distances(CellFlux.from_pretrained(config.output_dir / "generator-000008"))
    assert {name: record["validation"][-1][name] for name in names} == pytest.approx(expected, abs=2e-6)
    assert record["real"] == distances.floor and distances.floor.keys() == names
    assert (config.output_dir / "curves.png").read_text() == f"2 {distances.floor}"


def test_validation_does_not_touch_the_training(config, networks, tmp_path):
    train_base(config)
    networks.clear()
    rare = replace(config, output_dir=tmp_path / "rare", validation=replace(config.validation, draw_every=8))
    train_base(rare)
    assert metadata(rare)["validation"][-1].keys() == {"step", "validation_loss"} and metadata(rare)["real"] == {}
    assert saved_weights(config.output_dir, 8).equal(saved_weights(rare.output_dir, 8))


def test_the_first_step_of_the_published_recipe_is_adamw(config):
    published = PRESETS["cellflux"]
    recipe = replace(published, steps=8, batch_size=4, output_dir=config.output_dir, validation=config.validation)
    training = BaseTraining(recipe, start_accelerator(mixed_precision="no", threads=1), FewCells(), None)
    before = {name: p.detach().clone() for name, p in training.generator.named_parameters()}
    training.step(0)
    moved = 0
    for name, after in training.generator.named_parameters():  # lr sign(g), beside the decay
        step = after.detach() - before[name] * (1 - 1e-4 * 0.01)
        has_gradient = after.grad.abs() > 1e-5
        moved += int(has_gradient.sum())
        expected = -1e-4 * after.grad.sign()
        torch.testing.assert_close(step[has_gradient], expected[has_gradient], rtol=2e-3, atol=1e-7)
    assert moved > 100
    assert training.optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert training.generator.sampling == SAMPLINGS["cellflux"]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_stop_and_resume_is_bit_for_bit(config, monkeypatch, tmp_path, optimizer):
    config = replace(config, optim=replace(config.optim, optimizer=optimizer))
    train_base(config)
    stopped = replace(config, output_dir=tmp_path / "stopped")
    step = BaseTraining.step

    def killed(training, number):
        if number == 5:
            raise KeyboardInterrupt
        return step(training, number)

    monkeypatch.setattr(BaseTraining, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_base(stopped)
    monkeypatch.setattr(BaseTraining, "step", step)
    with torch.random.fork_rng():
        torch.manual_seed(123)  # another process has another global state
        train_base(replace(stopped, resume=True))
    assert saved_weights(config.output_dir, 8).equal(saved_weights(stopped.output_dir, 8))
    assert metadata(config)["validation"] == metadata(stopped)["validation"]


def test_nan_stops_the_run_while_its_checkpoints_are_good(config, monkeypatch):
    draw = base_training.draw_pairs

    def spoilt(data, n, rng, pairs, share):
        drawn = draw(data, n, rng, pairs, share)
        if rng.initial_seed() == rng_at(config.seed, TRAINING, 5).initial_seed():
            drawn.x1[1, 0, 3, 3] = float("nan")
        return drawn

    monkeypatch.setattr(base_training, "draw_pairs", spoilt)
    with pytest.raises(FloatingPointError, match=r"step 5: the gradient is nan.* the 1 rows that make it so are in"):
        train_base(config)
    _, rows = load_weights(config.output_dir / "nonfinite" / "000005-0.safetensors", dict[str, Any])
    assert rows["x1"].shape == (1, 3, 8, 8) and rows["x1"].isnan().sum() == 1
    monkeypatch.setattr(base_training, "draw_pairs", draw)
    train_base(replace(config, resume=True))
    assert saved_weights(config.output_dir, 8).isfinite().all()


def test_a_run_in_a_used_folder_sets_the_other_aside(config, tmp_path):
    train_base(config)
    first = saved_weights(config.output_dir, 8)
    train_base(replace(config, seed=1, steps=4))
    assert saved_weights(tmp_path / "run.1", 8).equal(first)
    assert [path.name for path in checkpoint.list_checkpoints(config.output_dir / "checkpoints")] == [
        "000002.pt",
        "000004.pt",
    ]
    with pytest.raises(ValueError, match="started with seed=1, now 0"):
        train_base(replace(config, resume=True))


def test_a_run_is_not_resumed_with_another_optimizer(config):
    train_base(config)
    with pytest.raises(ValueError, match=r"started with optim\.optimizer=muon, now adamw"):
        train_base(replace(config, resume=True, optim=replace(config.optim, optimizer="adamw")))


@pytest.mark.parametrize("cooldown", [0.5, 0.0])
def test_more_steps_continue_from_before_the_cooldown(config, tmp_path, cooldown):
    longer = replace(config, steps=12, optim=replace(config.optim, cooldown=cooldown))
    train_base(longer)
    extended = replace(longer, output_dir=tmp_path / "extended", steps=8)
    train_base(extended)
    train_base(replace(extended, steps=12, resume=True))
    assert saved_weights(longer.output_dir, 12).equal(saved_weights(extended.output_dir, 12))
    assert not saved_weights(extended.output_dir, 8).equal(saved_weights(extended.output_dir, 12))


def test_fewer_steps_than_were_done_before_the_cooldown_are_refused(config):
    config = replace(config, optim=replace(config.optim, cooldown=0.25))
    train_base(config)
    with pytest.raises(ValueError, match=r"has done 8 of 8 and is not the start of a run of 4.*up to 3;"):
        train_base(replace(config, steps=4, resume=True))


def test_the_logged_loss_is_that_of_all_processes(config, monkeypatch):
    logged = []
    monkeypatch.setattr(Accelerator, "reduce", lambda accelerator, loss, how: torch.tensor({"mean": 7.0}[how]))
    monkeypatch.setattr(Accelerator, "log", lambda accelerator, values, step: logged.append(values))
    train_base(replace(config, steps=20, validation=replace(config.validation, draw_every=20)))
    assert [values["loss"] for values in logged if "loss" in values] == [7.0]


def test_nothing_to_resume(config):
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume"):
        train_base(replace(config, resume=True))


def test_each_step_has_its_own_learning_rate(config):
    training = BaseTraining(config, start_accelerator(mixed_precision="no", threads=1), FewCells(), None)
    optim = config.optim
    for step in (0, 3, 7):
        training.step(step)
        factor = learning_rate_factor(step, config.steps, optim.warmup_steps, optim.cooldown)
        assert training.optimizer.param_groups[0]["lr"] == optim.learning_rate * factor


def test_a_folder_is_validated_on_its_test_split(monkeypatch):
    monkeypatch.setattr(base_training, "build_cells", lambda config, split: split)
    assert build_data(DataConfig()) == ("train", "validation")
    assert build_data(DataConfig(path=Path("cells"))) == ("train", "test")


def test_the_estimate_scales_with_steps_and_pairs(config, monkeypatch):
    monkeypatch.setattr(base_training, "seconds_of", lambda work: 1.0)  # of a step
    plain = replace(config, pairs=replace(config.pairs, guidance=0.0))
    assert estimate_base(plain)[:2] == (8 * 4 * 3, 8)  # forward, and backward as two
    guided = replace(config, pairs=replace(config.pairs, guidance=0.7))
    assert estimate_base(guided).nfe == 8 * 4 * 4  # guidance evaluates the network without a condition, too
    assert estimate_base(replace(plain, steps=16))[:2] == (2 * 8 * 4 * 3, 16)
    assert estimate_base(replace(plain, batch_size=8)).nfe == 2 * 8 * 4 * 3
    assert not config.output_dir.exists()

import json
from dataclasses import asdict
from pathlib import Path

from algorithms.cli import run
from algorithms.logs import flatten_config
from algorithms.recipes.base import PRESETS
from algorithms.schedule import learning_rate_factor
from cellenv import generator
from cellenv.networks import PRESETS as NETWORKS

OLD_NAMES = {  # of fields that were flat when the shipped generator was trained
    "network": "network",
    "steps": "steps",
    "batch_size": "batch_size",
    "seed": "seed",
    "lr": "optim.learning_rate",
    "warmup": "optim.warmup_steps",
    "cooldown": "optim.cooldown",
    "weight_decay": "optim.weight_decay",
    "clip": "optim.max_grad_norm",
    "decay": "optim.ema_decay",
    "times": "pairs.times",
    "noise_level": "pairs.noise_level",
    "noise_share": "pairs.noise_share",
    "condition_dropout": "pairs.condition_dropout",
    "guidance": "pairs.guidance",
    "flip": "pairs.flip",
}


def test_the_default_preset_made_the_shipped_generator():
    file = Path(generator.__file__).parent / "assets/embedded/config.json"
    made = json.loads(file.read_text())["metadata"]["config"]
    default = flatten_config(asdict(PRESETS["default"]))
    assert {name: default[new] for name, new in OLD_NAMES.items()} == {name: made[name] for name in OLD_NAMES}
    assert default["optim.optimizer"] == "muon" and default["sampling"] == "default"  # the only ones at that time
    assert not default["pairs.dequantise"]


def test_the_published_recipe_has_a_constant_rate_and_the_published_sampler():
    recipe = PRESETS["cellflux"]
    factors = {learning_rate_factor(step, 500, recipe.optim.warmup_steps, recipe.optim.cooldown) for step in range(500)}
    assert factors == {1.0} and recipe.sampling == "cellflux" and recipe.network in NETWORKS


def test_a_dry_run_shows_the_config_and_estimates_it_without_writing(tmp_path, capsys):
    flags = "--preset smoke --optimizer adamw --batch-size 2 --learning-rate 1e-3 --threads 1 --mixed-precision no"
    run("train", "base", args=[*flags.split(), "--dry-run", "--output-dir", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "optim.learning_rate = 0.001" in printed
    evaluations = 4 * 2 * (2 + 2)  # steps, pairs; forward with and without condition, and backward
    assert f"network function evaluations  {evaluations}\n" in printed
    assert not (tmp_path / "run").exists()

import json
from dataclasses import asdict
from pathlib import Path

from algorithms.cli import run
from algorithms.logs import flatten_config
from algorithms.recipes.base import PRESETS
from algorithms.schedule import learning_rate_factor
from cellenv import generator
from cellenv.networks import PRESETS as NETWORKS


def test_the_default_preset_made_the_shipped_generator():
    file = Path(generator.__file__).parent / "assets/embedded/config.json"
    made = json.loads(file.read_text())["metadata"]["config"]
    default = json.loads(json.dumps(flatten_config(asdict(PRESETS["default"]))))
    assert made == {name: default[name] for name in made} | {"threads": made["threads"]}  # later options: not set


def test_the_published_recipe_has_a_constant_rate_and_the_published_sampler():
    recipe = PRESETS["cellflux"]
    factors = {learning_rate_factor(step, 500, recipe.optim.warmup_steps, recipe.optim.cooldown) for step in range(500)}
    assert factors == {1.0} and recipe.sampling == "cellflux" and recipe.network in NETWORKS


def test_a_dry_run_shows_the_config_and_estimates_it_without_writing(tmp_path, capsys):
    flags = "--preset smoke --optimizer adamw --batch-size 2 --learning-rate 1e-3 --threads 1 --mixed-precision no"
    run("train", "base", args=[*flags.split(), "--dry-run", "--output-dir", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "optim.learning_rate = 0.001" in printed
    evaluations = 4 * 2 * (1 + 2)  # steps, pairs; forward, and backward as two
    assert f"network function evaluations  {evaluations}\n" in printed
    assert not (tmp_path / "run").exists()

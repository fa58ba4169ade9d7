"""What tests of recipes share: the smoke run on a tiny generator and a user's reward, with a recorded evaluation."""

from functools import cache

import pytest

from algorithms import build
from algorithms.recipes import post_training
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import Sampling
from rewards import SUITE
from tests.algorithms.recipes.recipe_toys import Runner

embedded_cells = cache(SyntheticCells)


@pytest.fixture(autouse=True)
def rendered_once(monkeypatch):
    """Share the embedded cells among the runs, so that no image is rendered twice."""
    monkeypatch.setattr(build, "SyntheticCells", embedded_cells)


@pytest.fixture
def own_reward(tmp_path):
    """Terms that replace the suite by the brightness of an image; nothing is segmented."""
    (tmp_path / "mine.py").write_text("def brightness(images):\n    return images.flatten(1).mean(1)\n")
    return (*(f"{spec.name}=0" for spec in SUITE), f"bright={tmp_path / 'mine.py'}:brightness")


@pytest.fixture
def evaluated(monkeypatch):
    """Record what is given to the evaluation in its place: (models, cells, arguments)."""
    calls = []

    def record(models, data, output_dir, **given):
        calls.append((models, data, given))
        return {"rows": {row: {"n_contexts": 16} for row in models}, "paired": {}, "baselines": {}, "rewards": []}

    monkeypatch.setattr(post_training, "evaluate_models", record)
    return calls


@pytest.fixture
def runner(evaluated, own_reward, save_base, tmp_path):
    """Return a function from a recipe and the sampling of its base to a `Runner` in a temporary folder."""

    def make(recipe, sampling: Sampling) -> Runner:
        terms = [flag for term in own_reward for flag in ("--reward", term)]
        return Runner(recipe, save_base(sampling), tmp_path, terms, evaluated)

    return make

"""Post-training still computes what it computed: recorded numbers of short runs of all six algorithms.

smoke.json and full.json hold every number of log.jsonl but times, as recorded with float32 on one thread, seed 0, each
with `--loss.normalise total --threads 1 --mixed-precision no`:

    cellfluxrl train NAME --preset smoke                      (smoke)
    cellfluxrl train nft --iterations 8                       (full)
    cellfluxrl train NAME --iterations 2 --contexts 16        (full, the others)

On the processor that recorded them a run repeats them, and the SHA-256 of the trained weights, bit for bit; on another
one, products of floats round differently, so that the tests allow a few percent. `pytest -m golden` runs the full ones.
"""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from algorithms.config import PostTrainingConfig
from algorithms.launch import start_accelerator
from algorithms.recipes import ALGORITHMS, nft
from algorithms.recipes.post_training import build_components
from algorithms.trainer import train

FOLDER = Path(__file__).parent
SMOKE, FULL = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("smoke", "full"))


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def recorded_config(config: PostTrainingConfig, folder: Path, iterations: int) -> PostTrainingConfig:
    """The config as it was when the numbers were recorded: the total is normalised."""
    loss = replace(config.loss, normalise="total")
    return replace(
        config,
        output_dir=folder,
        iterations=iterations,
        threads=1,
        mixed_precision="no",
        trackers=(),
        loss=loss,
    )


def run(name: str, folder: Path, *, preset: str, iterations: int) -> list[dict[str, float]]:
    """The numbers of every iteration, without times."""
    recipe = import_module(ALGORITHMS[name])
    config = recorded_config(recipe.PRESETS[preset], folder, iterations)
    accelerator = start_accelerator(mixed_precision=config.mixed_precision, threads=config.threads)
    train(accelerator, config, recipe.build(build_components(config, accelerator)))
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


def assert_near(found: list[dict[str, float]], recorded: list[dict[str, float]]) -> None:
    assert len(found) == len(recorded)
    for now, then in zip(found, recorded, strict=True):
        assert {key: now.get(key) for key in then} == pytest.approx(then, rel=0.03, abs=0.02)  # new keys may come


@pytest.mark.parametrize("name", SMOKE)
def test_two_small_iterations(name, tmp_path, one_thread, fresh_accelerate):
    assert_near(run(name, tmp_path, preset="smoke", iterations=2), SMOKE[name])


@pytest.mark.golden
@pytest.mark.parametrize("name", FULL["log"])
def test_full_iterations(name, tmp_path, one_thread, fresh_accelerate):
    recorded = FULL["log"][name]
    assert_near(run(name, tmp_path, preset="default", iterations=len(recorded)), recorded)


@pytest.mark.golden
def test_full_evaluation(tmp_path, one_thread, fresh_accelerate):
    recorded = FULL["evaluation"]["nft"]
    config = recorded_config(nft.PRESETS["default"], tmp_path, 8)
    nft.main(config)
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    for table in ("rows", "paired"):
        for row, figures in recorded[table].items():
            found = {key: flat(evaluation[table][row][key]) for key in figures}
            assert found == {key: pytest.approx(flat(value), rel=0.03, abs=0.02) for key, value in figures.items()}


def flat(figure: dict | float | None) -> list[float | None]:
    """Mean and interval of a figure, or the number that it is."""
    return [figure["mean"], *figure["ci"]] if isinstance(figure, dict) else [figure]


def test_every_algorithm_is_recorded():
    assert set(SMOKE) == set(FULL["log"]) == set(ALGORITHMS)

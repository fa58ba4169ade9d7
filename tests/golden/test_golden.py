"""Post-training still computes what it computed: recorded numbers of two small iterations of every algorithm.

smoke.json holds every number of log.jsonl but times, of `cellfluxrl train NAME --preset smoke` in float32 on one
thread. A run repeats them on the processor that recorded them; on another one, products of floats round differently, so
that the tests allow a few percent. After a change that is meant to change them:

    python -m tests.golden.test_golden
"""

import json
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from algorithms.launch import start_accelerator
from algorithms.recipes import ALGORITHMS
from algorithms.recipes.post_training import build_components
from algorithms.trainer import train

FILE = Path(__file__).with_name("smoke.json")
RECORDED = json.loads(FILE.read_text())


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(name: str, folder: Path) -> list[dict[str, float]]:
    """The numbers of every iteration, without times."""
    recipe = import_module(ALGORITHMS[name])
    config = replace(recipe.PRESETS["smoke"], output_dir=folder, threads=1, mixed_precision="no", trackers=())
    accelerator = start_accelerator(mixed_precision=config.mixed_precision, threads=config.threads)
    train(accelerator, config, recipe.build(build_components(config, accelerator)))
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_small_iterations(name, tmp_path, one_thread, fresh_accelerate):
    found, recorded = run(name, tmp_path), RECORDED[name]
    assert len(found) == len(recorded)
    for now, then in zip(found, recorded, strict=True):
        assert {key: now.get(key) for key in then} == pytest.approx(then, rel=0.03, abs=0.02)  # new keys may come


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(json.dumps({name: run(name, Path(folder, name)) for name in ALGORITHMS}, indent=1) + "\n")

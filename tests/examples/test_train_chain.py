"""The scripts that train the sampler as a chain, on a tiny generator: they train, resume and heed options."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torchrl.envs import Compose

from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at
from rewards.transforms import ImageReward, WeightedSum

TINY = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
OPTIONS = {  # of each script: what must change the weights it learns
    "grpo": [{"clip": 0.5}, {"kl_weight": 30.0}, {"window": (0, 1)}, {"eta": 0.2}],
    "ppo": [{"clip": 0.5}, {"critic_weight": 5.0}, {"window": (0, 1)}, {"eta": 0.2}, {"lmbda": 0.0}],
}


@pytest.fixture
def examples(monkeypatch, request):
    """The scripts' modules by name, with brightness for a reward and an evaluation that only remembers its models."""
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import post_training

    def suite(preset):
        bright = ImageReward("bright", lambda images: images.flatten(1).mean(1))
        return Compose(bright, WeightedSum({"bright": 1.0}))

    calls = []
    monkeypatch.setattr(post_training, "cellflux_rewards", suite)
    monkeypatch.setattr(post_training, "make_rulers", lambda data, **_: None)
    monkeypatch.setattr(post_training, "evaluate_run", lambda models, *_, **__: calls.append(models))
    return lambda name: importlib.import_module(f"train_{name}"), calls


@pytest.fixture
def base(tmp_path):
    network = UNet(TINY)
    for i, parameter in enumerate(network.parameters()):
        nn.init.normal_(parameter, std=0.1, generator=rng_at(8, i))
    CellFlux(network, TINY, Sampling(steps=4)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def settings(script, base, name, **options):
    usual = {"generator": str(base), "threads": 1, "learning_rate": 1e-2, "trackers": (), "show_every": 9}
    return replace(script.PRESETS["smoke"], output_dir=base.parent / name, **(usual | options))


def weights(folder):
    return torch.cat([value.flatten() for value in CellFlux.from_pretrained(folder).state_dict().values()])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_trains_and_resumes_where_it_stopped(examples, base, name):
    load, calls = examples
    script = load(name)
    script.main(settings(script, base, "straight", iterations=3))
    script.main(settings(script, base, "stopped"))
    script.main(settings(script, base, "stopped", iterations=3, resume=True))
    straight, resumed = (weights(base.parent / run / "model") for run in ("straight", "stopped"))
    assert torch.equal(straight, resumed) and not torch.equal(straight, weights(base))
    assert [list(models) for models in calls] == 3 * [["base", "rl"]]
    assert calls[0]["rl"].sampling == Sampling(steps=4)  # judged without the noise of the chain
    lines = [json.loads(line) for line in (base.parent / "straight" / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(f"loss_{name}" in line and line["grad_norm"] > 0 for line in lines)


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps its precision for the process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize("name", OPTIONS)
def test_before_the_first_update_the_ratio_is_one_in_low_precision(examples, base, name, fresh_accelerate):
    script = examples[0](name)
    first = {"iterations": 1, "optimizer_steps": 1, "micro_batch": 16, "mixed_precision": "bf16"}
    script.main(settings(script, base, "first", **first))
    (line,) = (base.parent / "first" / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["max_ratio"] == 1


@pytest.mark.parametrize("name", OPTIONS)
def test_options_reach_the_training(examples, base, name):
    script, learned = examples[0](name), []
    for option in ({}, *OPTIONS[name]):
        script.main(settings(script, base, "run", iterations=1, **option))
        learned.append(weights(base.parent / "run" / "model"))
    assert [option for option, other in zip(OPTIONS[name], learned[1:]) if torch.equal(learned[0], other)] == []


@pytest.mark.parametrize("name", OPTIONS)
def test_a_script_differs_from_that_of_nft_in_loss_and_config_alone(examples, name):
    script, nft = (importlib.import_module(f"train_{other}") for other in (name, "nft"))
    shared = {"Config", "PRESETS", "build", "main", "post_train", "Setup", "Algorithm"}
    assert all(hasattr(script, entry) and hasattr(nft, entry) for entry in shared)
    assert script.post_train is nft.post_train and script.Algorithm is nft.Algorithm
    assert {field.name for field in fields(script.Config)} >= {"window", "eta", "clip"}


@pytest.mark.parametrize("name", OPTIONS)
def test_help_needs_no_heavy_import(request, name):
    command = [sys.executable, "-X", "importtime", f"examples/train_{name}.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--window" in done.stdout and "torchrl" not in done.stderr

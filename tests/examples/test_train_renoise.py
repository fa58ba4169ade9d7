"""The scripts that weigh flow matching, on a tiny generator and a toy reward: they train, resume, and heed options."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchrl.envs import Compose

from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at
from rewards.transforms import ImageReward, WeightedSum

TINY = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
OPTIONS = {  # of each script: what must change the weights it learns
    "awm": [{"clip": 1e-6}, {"kl_weight": 3.0}],
    "rwr": [{"temperature": 0.1}, {"kl_weight": 3.0}],
    "rft": [{"keep": 1}, {"kl_weight": 3.0}],
}


@pytest.fixture
def examples(monkeypatch, request):
    """The scripts' modules by name, with brightness for a reward and an evaluation that only remembers its rows."""
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import post_training

    def suite(preset):
        bright = ImageReward("bright", lambda images: images.flatten(1).mean(1))
        return Compose(bright, WeightedSum({"bright": 1.0}))

    rows = []
    monkeypatch.setattr(post_training, "cellflux_rewards", suite)
    monkeypatch.setattr(post_training, "make_rulers", lambda data, **_: None)
    monkeypatch.setattr(post_training, "evaluate_run", lambda models, *_, **__: rows.append(list(models)))
    return lambda name: importlib.import_module(f"train_{name}"), rows


@pytest.fixture
def base(tmp_path):
    network = UNet(TINY)
    for i, parameter in enumerate(network.parameters()):
        nn.init.normal_(parameter, std=0.1, generator=rng_at(8, i))
    CellFlux(network, TINY, Sampling(steps=2, noise_level=0.5)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def settings(script, base, name, **options):
    usual = {"generator": str(base), "threads": 1, "learning_rate": 1e-2, "trackers": ()}
    usual |= {"optimizer_steps": 2, "show_every": 100, "groups": 1}
    return replace(script.PRESETS["smoke"], output_dir=base.parent / name, **(usual | options))


def weights(folder):
    return torch.cat([value.flatten() for value in CellFlux.from_pretrained(folder).state_dict().values()])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_trains_and_resumes_where_it_stopped(examples, base, name):
    load, rows = examples
    script = load(name)
    script.main(settings(script, base, "straight", iterations=3))
    script.main(settings(script, base, "stopped"))
    script.main(settings(script, base, "stopped", iterations=3, resume=True))
    straight, resumed = (weights(base.parent / run / "model") for run in ("straight", "stopped"))
    assert torch.equal(straight, resumed) and not torch.equal(straight, weights(base))
    assert rows == 3 * [["base", "rl"]]
    lines = [json.loads(line) for line in (base.parent / "straight" / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(f"loss_{name}" in line and line["grad_norm"] > 0 for line in lines)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_reach_the_training(examples, base, name):
    script, learned = examples[0](name), []
    for option in ({}, *OPTIONS[name]):
        script.main(settings(script, base, "run", iterations=1, **option))
        learned.append(weights(base.parent / "run" / "model"))
    assert not any(torch.equal(learned[0], other) for other in learned[1:])


@pytest.mark.parametrize("name", OPTIONS)
def test_without_a_reward_awm_stays_and_the_others_learn_from_their_own_images(examples, base, name):
    script = examples[0](name)
    script.main(settings(script, base, "zero", control="zero", iterations=1))
    assert torch.equal(weights(base.parent / "zero" / "model"), weights(base)) == (name == "awm")


@pytest.mark.parametrize("name", OPTIONS)
def test_help_needs_no_heavy_import(request, name):
    command = [sys.executable, "-X", "importtime", f"examples/train_{name}.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--kl-weight" in done.stdout and "torchrl" not in done.stderr

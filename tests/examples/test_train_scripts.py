"""The scripts beside train_nft.py, on a tiny generator and a toy reward: they train, resume, and heed options."""

import importlib
import json
from dataclasses import replace

import pytest
import torch

from cellenv.generator import CellFlux, Sampling

CHAIN = {  # of each script: what must change the weights it learns
    "grpo": [{"clip": 1e-6}, {"kl_weight": 30.0}, {"window": (0, 1)}, {"eta": 0.2}],
    "ppo": [{"clip": 1e-6}, {"critic_weight": 5.0}, {"window": (0, 1)}, {"eta": 0.2}, {"lmbda": 0.0}],
}
RENOISE = {
    "awm": [{"clip": 1e-6}, {"kl_weight": 3.0}],
    "rwr": [{"temperature": 0.1}, {"kl_weight": 3.0}],
    "rft": [{"keep": 1}, {"kl_weight": 3.0}],
}
OPTIONS = CHAIN | RENOISE
SAMPLING = dict.fromkeys(CHAIN, Sampling(steps=4)) | dict.fromkeys(RENOISE, Sampling(steps=2, noise_level=0.5))


@pytest.fixture
def script(evaluated, name):
    return importlib.import_module(f"train_{name}")


@pytest.fixture
def base(save_base, name):
    return save_base(SAMPLING[name])


@pytest.fixture
def run(script, base, name):
    """Train with these options; returns the run's folder."""

    def run(folder, **options):
        usual = {"generator": str(base), "threads": 1, "mixed_precision": "no", "learning_rate": 1e-2}
        usual |= {"trackers": (), "show_every": 9, "optimizer_steps": 2}
        if name in RENOISE:
            usual["groups"] = 1
        config = replace(script.PRESETS["smoke"], output_dir=base.parent / folder, **(usual | options))
        script.main(config)
        return config.output_dir

    return run


def weights(folder):
    return torch.cat([value.flatten() for value in CellFlux.from_pretrained(folder).state_dict().values()])


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_trains_and_resumes_where_it_stopped(run, base, evaluated, name):
    straight, _ = run("straight", iterations=3), run("stopped")
    resumed = run("stopped", iterations=3, resume=True)
    assert torch.equal(weights(straight / "model"), weights(resumed / "model"))
    assert not torch.equal(weights(straight / "model"), weights(base))
    assert [list(models) for models, *_ in evaluated] == 3 * [["base", "rl"]]
    assert evaluated[0][0]["rl"].sampling == SAMPLING[name]  # judged without the noise of the chain
    log = lines(straight)
    assert len(log) == 3 and all(f"loss_{name}" in line and line["grad_norm"] > 0 for line in log)


@pytest.mark.parametrize("name", CHAIN)
def test_before_the_first_update_the_ratio_is_one_in_low_precision(run, name, fresh_accelerate):
    (line,) = lines(run("first", iterations=1, optimizer_steps=1, micro_batch=16, mixed_precision="bf16"))
    assert line["max_ratio"] == 1


@pytest.mark.parametrize("name", OPTIONS)
def test_options_reach_the_training(run, name):
    learned = [weights(run("run", iterations=1, **option) / "model") for option in ({}, *OPTIONS[name])]
    assert [option for option, other in zip(OPTIONS[name], learned[1:]) if torch.equal(learned[0], other)] == []


@pytest.mark.parametrize("name", RENOISE)
def test_without_a_reward_awm_stays_and_the_others_learn_from_their_own_images(run, base, name):
    folder = run("zero", control="zero", iterations=1)
    assert torch.equal(weights(folder / "model"), weights(base)) == (name == "awm")


@pytest.mark.parametrize("name", ["ppo"])
def test_the_critic_has_a_rate_of_its_own(run, name):
    fast, slow = (weights(run("run", iterations=2, critic_rate=rate) / "model") for rate in (10.0, 0.1))
    assert not torch.equal(fast, slow)  # the advantages of the second iteration are less what it has learned

"""The main script on a tiny generator and a toy reward: what it writes, controls, LoRA, resume."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState

from cellenv.generator import CellFlux, Sampling


@pytest.fixture
def script(evaluated):
    """The script, and what its evaluation was given."""
    import train_nft

    train_nft.calls = evaluated
    return train_nft


@pytest.fixture
def config(script, save_base, tmp_path):
    base = save_base(Sampling(steps=2, noise_level=0.5))
    smoke = script.PRESETS["smoke"]
    here = {"output_dir": tmp_path / "run", "generator": str(base), "threads": 1, "mixed_precision": "no"}
    return replace(smoke, **here, learning_rate=1e-2)


def weights(folder):
    return CellFlux.from_pretrained(folder).state_dict()


def test_a_run_leaves_a_model_logs_pictures_and_an_evaluation(script, config, tmp_path, capsys):
    script.main(config)
    models, data, options = script.calls[0]
    assert list(models) == ["base", "rl"] and data.split == "test" and options["config"]["preset"] == "default"
    base, trained = weights(tmp_path / "base"), weights(tmp_path / "run" / "model")
    assert trained.keys() == base.keys() and any(not torch.equal(trained[key], base[key]) for key in base)
    for key in base:
        assert torch.equal(models["base"].state_dict()[key], base[key])
        assert torch.equal(models["rl"].state_dict()[key], trained[key])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1] and "rewards/bright/mean" in lines[0]
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == ["000001.png", "000002.png"]
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))
    assert "seconds an iteration: rollout" in capsys.readouterr().out


def test_resume_goes_on_and_a_second_start_moves_the_first_aside(script, config, tmp_path):
    script.main(replace(config, output_dir=tmp_path / "straight", iterations=3))
    script.main(config)
    script.main(replace(config, resume=True, iterations=3))
    straight, resumed = weights(tmp_path / "straight" / "model"), weights(tmp_path / "run" / "model")
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    with pytest.raises(ValueError, match=r"beta='1\.0', now '0\.5'"):
        script.main(replace(config, resume=True, beta=0.5))
    script.main(replace(config, iterations=1))
    assert len((tmp_path / "run.1" / "log.jsonl").read_text().splitlines()) == 3
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("options", [{"groups": 0}, {"group_size": 1}, {"iterations": 0}, {"micro_batch": 0}])
def test_settings_that_cannot_work_are_refused(config, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        replace(config, **options)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"generator": "embeded"}, FileNotFoundError, "no generator at embeded"),
        ({"contexts": 600}, ValueError, "need 600 pairs"),
    ],
)
def test_a_mistake_is_found_before_the_finished_run_is_moved(script, config, tmp_path, options, error, message):
    script.main(config)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        script.main(replace(config, **options))
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_resume_in_another_precision_is_refused(script, config, fresh_accelerate):
    script.main(config)
    AcceleratorState._reset_state(True)
    with pytest.raises(ValueError, match="mixed_precision='no', now 'bf16'"):
        script.main(replace(config, resume=True, iterations=3, mixed_precision="bf16"))


def test_what_learns_draws_without_guidance(script, config, tmp_path):
    generator = CellFlux.from_pretrained(config.generator)
    generator.guidance = 0.5
    generator.save_pretrained(tmp_path / "guided")
    script.main(replace(config, generator=str(tmp_path / "guided")))
    models = script.calls[0][0]
    assert (models["base"].guidance, models["rl"].guidance) == (0.5, 0.0)


@pytest.mark.parametrize("control", ["zero", "shuffled", "flipped"])
def test_controls(script, config, tmp_path, control):
    script.main(replace(config, control=control))
    script.main(replace(config, output_dir=tmp_path / "real"))
    assert list(script.calls[0][0]) == ["base", f"{control}-reward"]
    base, real, trained = (weights(tmp_path / name) for name in ("base", "real/model", "run/model"))
    assert all(torch.equal(trained[key], base[key]) for key in base) == (control == "zero")
    assert any(not torch.equal(trained[key], real[key]) for key in base)


@pytest.mark.parametrize(
    "option", [{"coupling": "group"}, {"coupling": "generating"}, {"times": "rollout"}, {"loss": "plain"}]
)
def test_options_reach_the_training(script, config, tmp_path, option):
    script.main(replace(config, iterations=1))
    script.main(replace(config, iterations=1, output_dir=tmp_path / "other", **option))
    usual, other = weights(tmp_path / "run" / "model"), weights(tmp_path / "other" / "model")
    assert any(not torch.equal(usual[key], other[key]) for key in usual)


@pytest.mark.slow
def test_adapters_are_merged_into_the_model(script, config, tmp_path):
    script.main(replace(config, lora_rank=2))
    base, trained = weights(tmp_path / "base"), weights(tmp_path / "run" / "model")
    assert trained.keys() == base.keys() and any(not torch.equal(trained[key], base[key]) for key in base)
    state = torch.load(tmp_path / "run" / "checkpoints" / "000002.pt", weights_only=True)
    assert all("lora_" in name for name in state["ema"]["average"])


def test_help_is_quick(request):
    start = time.monotonic()
    command = [sys.executable, "examples/train_nft.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--control" in done.stdout
    assert time.monotonic() - start < 5

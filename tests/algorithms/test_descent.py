"""Gradients that are not finite: the run stops before the step, and their rows are saved; the scaling of fp16."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from algorithms.descent import descend
from algorithms.launch import start_accelerator
from algorithms.trainer import train
from cellenv.weights_io import load_weights
from tests.algorithms.config_toys import train_config
from tests.algorithms.nft_toys import ToyNet, toy_algorithm


def run(folder, *, accelerator=None, algorithm=None, iterations=3):
    """Train the toy; returns its log."""
    config = train_config(folder, iterations=iterations, learning_rate=1e-2)
    train(accelerator or start_accelerator(threads=1), config, algorithm or toy_algorithm())
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def with_nan(algorithm):
    """The algorithm with one bad pixel in each of its rollouts."""

    def collect(iteration, clock):
        td = algorithm.collect(iteration, clock)
        td["action"][7, 0, 0, 0] = float("nan")
        return td

    return replace(algorithm, collect=collect)


def test_nan_in_an_image_stops_the_run_before_the_step_and_saves_its_rows(tmp_path):
    algorithm = with_nan(toy_algorithm())
    with pytest.raises(FloatingPointError, match=r"step 0: the gradient is nan.* the 2 rows that make it so are in"):
        run(tmp_path, algorithm=algorithm)
    assert torch.equal(algorithm.theta.outer.weight, ToyNet().outer.weight)
    about, rows = load_weights(tmp_path / "nonfinite" / "000000-0.safetensors", dict[str, Any])
    assert about == {"step": 0, "rank": 0} and len(rows["t"]) == 2
    assert rows["x1"].flatten(1).isnan().sum(1).tolist() == [1, 1]


@pytest.fixture
def fp16(fresh_accelerate, monkeypatch):
    """An accelerator that computes in float16 and scales losses, which `start_accelerator` refuses without a GPU."""
    accelerator = start_accelerator(threads=1)
    monkeypatch.setattr(type(accelerator), "mixed_precision", "fp16")
    accelerator.native_amp, accelerator.scaler = True, torch.amp.GradScaler("cpu")
    return accelerator


def check_clipping(accelerator):
    """A gradient of norm 10, clipped at 1 and at 20: what SGD with a rate of 1 moves, and the norm that is returned."""
    for limit, step in ((1.0, [-0.6, -0.8]), (20.0, [-6.0, -8.0])):
        weight = nn.Parameter(torch.zeros(2))
        optimizer = accelerator.prepare_optimizer(torch.optim.SGD([weight], lr=1.0))
        accelerator.backward(weight @ torch.tensor([6.0, 8.0]))
        assert descend(accelerator, optimizer, [weight], limit).item() == pytest.approx(10)
        assert weight.tolist() == pytest.approx(step, rel=1e-5)


def test_a_gradient_is_clipped_to_the_largest_norm():
    check_clipping(start_accelerator(threads=1))


def test_in_fp16_a_gradient_is_clipped_after_it_is_scaled_back(fp16):
    check_clipping(fp16)


def test_fp16_agrees_with_float32(tmp_path, fp16):
    scaled = run(tmp_path / "fp16", accelerator=fp16)
    fp16.native_amp, fp16.scaler = False, None
    plain = run(tmp_path / "float32", accelerator=fp16)
    assert [line["grad_norm"] for line in scaled] == pytest.approx([line["grad_norm"] for line in plain], rel=0.03)
    assert scaled[-1]["reward"] == pytest.approx(plain[-1]["reward"], rel=0.03)


def test_fp16_skips_steps_until_no_scale_could_help(tmp_path, fp16):
    algorithm = with_nan(toy_algorithm())
    with pytest.raises(FloatingPointError, match=r"step 16: .* until the loss scale is 0.5.* 2 rows"):
        run(tmp_path / "bad", algorithm=algorithm, accelerator=fp16, iterations=30)
    assert torch.equal(algorithm.theta.outer.weight, ToyNet().outer.weight)
    run(tmp_path / "good", accelerator=fp16)  # the gradients that the first left behind count no more
    assert fp16.scaler.get_scale() == 0.5

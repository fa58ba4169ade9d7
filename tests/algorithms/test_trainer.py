"""The loop: gradients over micro-batches, what learns and what does not, logs, refusals."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nft_toys import ToyNet, three, toy_algorithm
from PIL import Image
from tensordict import TensorDict
from torch import nn

from algorithms import controls, launch
from algorithms.clock import Clock
from algorithms.launch import start_accelerator
from algorithms.logs import mean_seconds, rollout_metrics, time_metrics
from algorithms.losses.nft import NFTLoss, old_decay
from algorithms.renoise import total_reward
from algorithms.trainer import Algorithm, Forwarder, TrainConfig, follow, train, update


def run(tmp_path, *, algorithm=None, accelerator=None, show=None, **config):
    """A short run on the toy; returns the algorithm, the lines of the log and the EMA."""
    algorithm = algorithm or toy_algorithm()
    config = TrainConfig(output_dir=tmp_path, **({"iterations": 3, "learning_rate": 1e-2} | config))
    ema = train(accelerator or start_accelerator(threads=1), config, algorithm, show=show)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    return algorithm, lines, ema


def rows(n=24):
    rng = torch.Generator().manual_seed(0)
    images = [torch.randn(n, 3, 4, 4, generator=rng) for _ in range(2)]
    other = {"t": torch.rand(n, generator=rng), "r": torch.rand(n, generator=rng)}
    condition = torch.randn(n, 5, generator=rng)
    return TensorDict({"x0": images[0], "x1": images[1], "condition": condition} | other, batch_size=[n])


def gradient(micro_batch, rows, optimizer_steps=1):
    accelerator = start_accelerator(threads=1)
    theta, old, ref = three(ToyNet())
    forwarder = accelerator.prepare(Forwarder(NFTLoss(theta, old, ref)))
    optimizer = accelerator.prepare(torch.optim.SGD(theta.parameters(), lr=0.0))
    config = TrainConfig(
        output_dir=Path(), iterations=1, micro_batch=micro_batch, optimizer_steps=optimizer_steps, max_grad_norm=1e9
    )
    metrics = update(accelerator, forwarder, optimizer, list(theta.parameters()), rows, config, Clock())
    return torch.cat([p.grad.flatten() for p in theta.parameters()]), metrics


@pytest.mark.parametrize("micro_batch", [1, 5, 7])
def test_micro_batches_have_the_gradient_of_the_whole(micro_batch):
    whole, metrics = gradient(24, rows())
    parts, part_metrics = gradient(micro_batch, rows())
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    assert part_metrics["loss_nft"] == pytest.approx(metrics["loss_nft"], rel=1e-5)
    assert part_metrics["grad_norm"] == pytest.approx(whole.norm().item(), rel=1e-5)


def test_two_optimizer_steps_take_each_row_once():
    last, _ = gradient(5, rows(), optimizer_steps=2)
    odd, _ = gradient(12, rows()[1::2])
    torch.testing.assert_close(last, odd, rtol=1e-5, atol=1e-6)


def test_reward_rises_and_falls_when_flipped(tmp_path):
    """The known answer: brightness is rewarded, so images get brighter, and darker when the sign is turned."""
    reward = {}
    for name, signal in (("real", total_reward), ("flipped", controls.flipped)):
        _, lines, _ = run(tmp_path / name, algorithm=toy_algorithm(signal=signal), iterations=25)
        reward[name] = [line["reward"] for line in lines]
    assert reward["real"][0] == reward["flipped"][0]
    assert sum(reward["real"][-3:]) / 3 > reward["real"][0] + 0.15
    assert sum(reward["flipped"][-3:]) / 3 < reward["flipped"][0] - 0.15


def test_zero_reward_leaves_the_weights_alone(tmp_path):
    algorithm, lines, ema = run(tmp_path, algorithm=toy_algorithm(ToyNet(), signal=controls.zero))
    pairs = list(zip(algorithm.theta.parameters(), ToyNet().parameters(), strict=True))
    assert all(torch.equal(mine, its) for mine, its in pairs)
    assert lines[-1]["grad_norm"] == 0 and lines[-1]["frac_reward_zero_std"] == 0  # the log shows the true reward
    with ema.swapped(algorithm.theta):
        assert all(torch.equal(mine, its) for mine, its in pairs)


def test_shuffled_permutes_inside_groups():
    td = TensorDict(
        {"group": torch.tensor([4, 4, 4, 4, 9, 9, 9, 9]), "next": {"reward": torch.arange(8.0)[:, None]}}, [8]
    )
    drawn = torch.stack([controls.shuffled(td, i, seed=0) for i in range(40)])
    assert torch.equal(drawn[:, :4].sort(1).values, torch.arange(4.0).expand(40, 4))
    assert torch.equal(drawn[:, 4:].sort(1).values, torch.arange(4.0, 8.0).expand(40, 4))
    assert (drawn.mean(0) - torch.tensor([1.5] * 4 + [5.5] * 4)).abs().max() < 0.8
    assert torch.equal(drawn[3], controls.shuffled(td, 3, seed=0))
    backwards = controls.shuffled(td.flip(0), 3, seed=0)
    assert torch.equal(backwards.sort().values, torch.arange(8.0))


def test_old_follows_by_the_schedule():
    assert [old_decay(i) for i in (0, 1, 100, 500, 9000)] == [0.0, 0.001, 0.1, 0.5, 0.5]
    old, theta = nn.Linear(2, 1), nn.Linear(2, 1)
    expected = 0.25 * old.weight + 0.75 * theta.weight
    follow(old, theta, 0.25)
    torch.testing.assert_close(old.weight, expected)
    follow(old, theta, 0.0)
    assert torch.equal(old.weight, theta.weight) and old.weight is not theta.weight


def test_rollouts_come_from_old_and_old_from_theta(tmp_path):
    algorithm, seen = toy_algorithm(decay=lambda i: 0.5), []

    def collect(iteration, clock):
        seen.append(copy.deepcopy(algorithm.old.state_dict()))
        return algorithm.collect(iteration, clock)

    run(tmp_path, algorithm=replace(algorithm, collect=collect))
    start, reference = ToyNet().state_dict(), algorithm.constant[0].state_dict()
    assert all(torch.equal(seen[0][key], start[key]) and torch.equal(reference[key], start[key]) for key in start)
    assert not torch.equal(seen[1]["outer.weight"], seen[0]["outer.weight"])
    assert not torch.equal(algorithm.theta.outer.weight, algorithm.old.outer.weight)


def test_without_a_schedule_old_is_theta(tmp_path):
    algorithm, _, _ = run(tmp_path, algorithm=toy_algorithm(decay=Algorithm.decay))
    assert torch.equal(algorithm.theta.outer.weight, algorithm.old.outer.weight)
    assert not torch.equal(algorithm.theta.outer.weight, ToyNet().outer.weight)


def test_warm_up_and_log_keys(tmp_path):
    _, lines, _ = run(tmp_path, iterations=4, warm_up=4, learning_rate=1e-3)
    assert [line["lr"] for line in lines] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3]
    expected = "reward reward_std rewards/bright/mean rewards/bright/std frac_reward_zero_std frac_reward_nan kl drift"
    expected += " residual loss_nft loss_kl grad_norm lr time/rollout time/rewards time/train time/other time/outside"
    assert set(expected.split()) <= set(lines[-1])
    assert lines[0]["kl"] == 0 and lines[-1]["kl"] > 0


def test_parts_learn_at_rates_of_their_own(tmp_path):
    """The first step of AdamW is the learning rate, whatever the gradient."""
    usual, fast = toy_algorithm(), toy_algorithm()
    fast = replace(fast, rates={fast.theta.outer: 10.0})
    for name, algorithm in (("usual", usual), ("fast", fast)):
        run(tmp_path / name, algorithm=algorithm, iterations=1, learning_rate=1e-4)
    start = ToyNet()
    moved = [(a.theta.outer.weight - start.outer.weight).norm() for a in (usual, fast)]
    torch.testing.assert_close(moved[1], 10 * moved[0], rtol=1e-3, atol=0)
    others = [dict(a.theta.named_parameters()) for a in (usual, fast)]
    assert len(others[0]) > 2
    assert all(torch.equal(others[0][key], others[1][key]) for key in others[0] if not key.startswith("outer"))


def test_metrics_of_a_rollout_leave_nan_out():
    reward = torch.tensor([[1.0], [3.0], [float("nan")], [2.0]])
    step = {"reward": reward, "rewards": {"size": -reward}}
    rollout = TensorDict({"group": torch.tensor([0, 0, 1, 1]), "next": step}, [4])
    metrics = rollout_metrics(rollout, lambda x: x)
    assert metrics["reward"] == 2 and metrics["rewards/size/mean"] == -2
    assert metrics["reward_std"] == pytest.approx((2 / 3) ** 0.5)
    assert metrics["frac_reward_nan"] == 0.25 and metrics["frac_reward_zero_std"] == 0.5


def test_clock_loses_no_time_between_laps():
    clock = Clock()
    now = iter([1.0, 3.0, 10.0, 10.5, 11.0, 12.0])  # of train: in, out; lap; of rollout: in, out; lap
    clock.start, clock._now = 0.0, lambda: next(now)
    with clock("train"):
        pass
    assert clock.lap() == {"train": 2.0, "other": 8.0, "total": 10.0}
    with clock("rollout"):
        pass
    second = clock.lap()
    assert second == {"rollout": 0.5, "other": 1.5, "total": 2.0}
    assert time_metrics(second)["time/outside"] == 0.75


def test_nan_in_an_image_stops_the_run_before_the_step(tmp_path):
    algorithm = toy_algorithm()

    def spoiled(iteration, clock):
        td = algorithm.collect(iteration, clock)
        td["action"][0, 0, 0, 0] = float("nan")
        return td

    with pytest.raises(FloatingPointError, match="the gradient is nan"):
        run(tmp_path, algorithm=replace(algorithm, collect=spoiled))
    assert torch.equal(algorithm.theta.outer.weight, ToyNet().outer.weight)


def test_bf16_learns_too(tmp_path, fresh_accelerate):
    _, lines, _ = run(tmp_path, accelerator=start_accelerator(mixed_precision="bf16", threads=1), iterations=25)
    reward = [line["reward"] for line in lines]
    assert sum(reward[-3:]) / 3 > reward[0] + 0.15
    assert lines[0]["drift"] < 1e-6  # theta and old are equal, also when rounded


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without a GPU")
def test_fp16_on_a_cpu_says_so(monkeypatch, fresh_accelerate):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        start_accelerator(mixed_precision="fp16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        start_accelerator(mixed_precision="auto")


@pytest.mark.parametrize(
    "told, hardware, expected",
    [("no", True, "bf16"), ("no", False, "no"), (None, True, "bf16"), ("fp16", True, "fp16"), ("bf16", False, "bf16")],
)
def test_automatic_precision_is_the_launchers_or_what_the_hardware_does_best(monkeypatch, told, hardware, expected):
    monkeypatch.setattr(launch, "multiplies_bf16", lambda: hardware)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if told is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", told)
    assert launch.automatic_precision() == expected


def test_accumulation_by_the_launcher_is_refused(monkeypatch, fresh_accelerate):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match="gradient accumulation of 4 came from the launcher"):
        start_accelerator(threads=1)


def test_pictures_show_the_average_weights_at_intervals(tmp_path):
    algorithm, seen = toy_algorithm(), []

    def show():
        seen.append(algorithm.theta.outer.weight.clone())
        return np.full((8, 9, 3), 10 * len(seen), np.uint8)

    _, _, ema = run(tmp_path, algorithm=algorithm, show=show, iterations=4, show_every=2)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["000002.png", "000004.png"]
    assert np.asarray(Image.open(tmp_path / "samples" / "000004.png")).max() == 20
    assert not torch.equal(seen[1], algorithm.theta.outer.weight)
    with ema.swapped(algorithm.theta):
        assert torch.equal(seen[1], algorithm.theta.outer.weight)


def test_ranks_that_drift_apart_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("algorithms.trainer.gather_object", lambda mine: [*mine, "other weights"])
    with pytest.raises(RuntimeError, match="the ranks hold different weights"):
        run(tmp_path)


def test_seconds_by_phase_and_the_share_outside_the_network(tmp_path):
    run(tmp_path)
    seconds = mean_seconds(tmp_path / "log.jsonl")
    assert list(seconds) == ["rollout", "rewards", "train", "other", "total", "outside"]
    parts = sum(seconds[name] for name in ("rollout", "rewards", "train", "other"))
    assert parts == pytest.approx(seconds["total"])
    assert seconds["outside"] == pytest.approx((seconds["rewards"] + seconds["other"]) / seconds["total"])

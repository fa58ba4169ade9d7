"""Training loop: gradients over micro-batches, what trains and what does not, log keys, pictures, errors."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensordict import TensorDict

from algorithms import checkpoint
from algorithms.advantages import total_reward
from algorithms.clock import Clock
from algorithms.controls import flipped_reward, zero_reward
from algorithms.launch import start_accelerator
from algorithms.losses.nft import NFTLoss
from algorithms.minibatches import minibatches
from algorithms.muon import OPTIMIZERS
from algorithms.train_config import OptimConfig
from algorithms.trainer import Algorithm, Forwarder, train, update
from tests.algorithms.config_toys import train_config
from tests.algorithms.nft_toys import ToyNet, three_copies, toy_algorithm
from tests.algorithms.sde_toys import toy_ppo

KEY = (5, 0)  # seed, iteration


def run(tmp_path, *, algorithm=None, accelerator=None, render_samples=None, **config):
    """Train the toy for three iterations, or as config says; returns the algorithm, its log and the EMA."""
    algorithm = algorithm or toy_algorithm()
    config = train_config(tmp_path, **({"iterations": 3, "learning_rate": 1e-2} | config))
    ema = train(accelerator or start_accelerator(threads=1), config, algorithm, render_samples=render_samples)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    return algorithm, lines, ema


def batch(n=24):
    """Random rows as `Renoise` makes them."""
    rng = torch.Generator().manual_seed(0)
    image = {key: torch.randn(n, 3, 4, 4, generator=rng) for key in ("x0", "x1")}
    number = {key: torch.rand(n, generator=rng) for key in ("t", "r")}
    condition = torch.randn(n, 5, generator=rng)
    return TensorDict(image | number | {"condition": condition, "row": torch.arange(n)}, batch_size=[n])


def gradient(micro_batch_size, rows, optimizer_steps=1, epochs=1):
    """Of the last step, and the metrics."""
    accelerator = start_accelerator(threads=1)
    theta, old, ref = three_copies(ToyNet())
    forwarder = accelerator.prepare(Forwarder(NFTLoss(theta, old, ref)))
    optimizer = accelerator.prepare(torch.optim.SGD(theta.parameters(), lr=0.0))
    optim = OptimConfig(
        micro_batch_size=micro_batch_size, optimizer_steps=optimizer_steps, epochs=epochs, max_grad_norm=1e9
    )
    metrics = update(accelerator, forwarder, optimizer, rows, optim, Clock(), KEY)
    return torch.cat([p.grad.flatten() for p in theta.parameters()]), metrics


@pytest.mark.parametrize("micro_batch_size", [1, 5, 7])
def test_micro_batches_have_the_gradient_of_the_whole_batch(micro_batch_size):
    whole, metrics = gradient(24, batch())
    parts, part_metrics = gradient(micro_batch_size, batch())
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    assert part_metrics["loss_nft"] == pytest.approx(metrics["loss_nft"], rel=1e-5)
    assert part_metrics["grad_norm"] == pytest.approx(whole.norm().item(), rel=1e-5)


def test_each_optimizer_step_has_a_minibatch_and_each_epoch_a_shuffle():
    for epochs in (1, 3):
        last, metrics = gradient(5, batch(), optimizer_steps=2, epochs=epochs)
        minibatch, _ = gradient(12, minibatches(batch(), 2, (*KEY, epochs - 1))[-1])
        torch.testing.assert_close(last, minibatch, rtol=1e-5, atol=1e-6)
        assert metrics["loss_nft"] == pytest.approx(gradient(24, batch())[1]["loss_nft"], rel=1e-5)  # each row once


def test_reward_rises_and_falls_when_flipped(tmp_path):
    """Brightness is rewarded: images get brighter, and darker with the flipped reward."""
    reward = {}
    for name, reward_fn in (("real", total_reward), ("flipped", flipped_reward)):
        _, lines, _ = run(tmp_path / name, algorithm=toy_algorithm(reward_fn=reward_fn), iterations=25)
        reward[name] = [line["reward"] for line in lines]
    assert reward["real"][0] == reward["flipped"][0]
    assert sum(reward["real"][-3:]) / 3 > reward["real"][0] + 0.15
    assert sum(reward["flipped"][-3:]) / 3 < reward["flipped"][0] - 0.15


def test_zero_reward_leaves_the_weights_unchanged(tmp_path):
    algorithm, lines, ema = run(tmp_path, algorithm=toy_algorithm(ToyNet(), reward_fn=zero_reward))
    pairs = list(zip(algorithm.theta.parameters(), ToyNet().parameters(), strict=True))
    assert all(torch.equal(trained, start) for trained, start in pairs)
    assert lines[-1]["grad_norm"] == 0 and lines[-1]["frac_reward_zero_std"] == 0  # the log shows the real reward
    with ema.swapped(algorithm.theta):
        assert all(torch.equal(average, start) for average, start in pairs)


def test_rollouts_come_from_old_which_lags_behind_theta(tmp_path):
    algorithm, seen, thetas = toy_algorithm(old_decay=lambda i: [0.0, 0.5][i]), [], []

    def collect(iteration, clock):
        seen.append(copy.deepcopy(algorithm.old.state_dict()))
        thetas.append(algorithm.theta.outer.weight.detach().clone())
        return algorithm.collect(iteration, clock)

    run(tmp_path, algorithm=replace(algorithm, collect=collect), iterations=2)
    start, reference = ToyNet().state_dict(), algorithm.frozen[0].state_dict()
    assert all(torch.equal(seen[0][key], start[key]) and torch.equal(reference[key], start[key]) for key in start)
    assert not torch.equal(seen[1]["outer.weight"], seen[0]["outer.weight"])
    assert torch.equal(seen[1]["outer.weight"], thetas[1])  # the first iteration's decay is 0, the second's 0.5
    assert torch.equal(seen[1]["outer.weight"].lerp(algorithm.theta.outer.weight, 0.5), algorithm.old.outer.weight)


def test_by_default_old_equals_theta(tmp_path):
    algorithm, _, _ = run(tmp_path, algorithm=toy_algorithm(old_decay=Algorithm.old_decay))
    assert torch.equal(algorithm.theta.outer.weight, algorithm.old.outer.weight)
    assert not torch.equal(algorithm.theta.outer.weight, ToyNet().outer.weight)


def test_warmup_and_log_keys(tmp_path):
    _, lines, _ = run(tmp_path, iterations=4, warmup_iterations=4, learning_rate=1e-3)
    assert [line["lr"] for line in lines] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3]
    expected = "reward reward_std rewards/bright/mean rewards/bright/std frac_reward_zero_std frac_reward_nan"
    expected += " pixel_diversity kl norm_ratio drift"
    expected += " residual loss_nft loss_kl grad_norm lr time/rollout time/rewards time/train time/other time/outside"
    assert set(expected.split()) <= set(lines[-1])
    assert lines[0]["kl"] == 0 and lines[-1]["kl"] > 0
    assert lines[0]["norm_ratio"] == 1 != lines[-1]["norm_ratio"]


def test_the_learning_rate_falls_to_zero_over_the_last_part(tmp_path):
    _, lines, _ = run(tmp_path, iterations=8, cooldown=0.5, learning_rate=1e-3)
    assert [line["lr"] for line in lines] == pytest.approx([1e-3] * 5 + [0.75e-3, 0.5e-3, 0.25e-3])


@pytest.mark.parametrize(("optimizer", "rms"), [("adamw", 1.0), ("muon", 0.2)])
def test_the_first_step_has_the_size_of_its_optimizer(tmp_path, optimizer, rms):
    algorithm, _, _ = run(tmp_path, iterations=1, optimizer=optimizer, learning_rate=1e-2)
    moved = algorithm.theta.outer.weight.detach() - ToyNet().outer.weight.detach()
    assert moved.square().mean().sqrt().item() == pytest.approx(rms * 1e-2, rel=0.25)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_shrinks_the_weights_by_its_share_of_the_learning_rate(tmp_path, optimizer):
    settings = {"iterations": 1, "learning_rate": 1e-2, "weight_decay": 0.3, "optimizer": optimizer}
    algorithm, _, _ = run(tmp_path, algorithm=toy_algorithm(reward_fn=zero_reward), **settings)
    for trained, start in zip(algorithm.theta.parameters(), ToyNet().parameters(), strict=True):
        torch.testing.assert_close(trained, (1 - 1e-2 * 0.3) * start)


def test_the_critic_learns_alone_first_and_then_beside_theta(tmp_path):
    algorithm = toy_ppo(warmup_iterations=2)
    start = copy.deepcopy(algorithm.theta.state_dict())

    def moved():
        return any(not torch.equal(value, start[key]) for key, value in algorithm.theta.state_dict().items())

    def collect(iteration, clock):
        assert moved() == (iteration > 2)
        return algorithm.collect(iteration, clock)

    _, lines, _ = run(tmp_path, algorithm=replace(algorithm, collect=collect), iterations=4)
    assert all("loss_critic" in line and line["critic/grad_norm"] > 0 for line in lines)
    assert ["loss_ppo" in line and "grad_norm" in line for line in lines] == [False, False, True, True]


def test_bf16_learns_too(tmp_path, fresh_accelerate):
    _, lines, _ = run(tmp_path, accelerator=start_accelerator(mixed_precision="bf16", threads=1), iterations=25)
    reward = [line["reward"] for line in lines]
    assert sum(reward[-3:]) / 3 > reward[0] + 0.15
    assert lines[0]["drift"] < 1e-6  # theta and old round alike


def test_pictures_show_the_ema_weights_at_intervals(tmp_path):
    algorithm, seen = toy_algorithm(), []

    def render_samples():
        seen.append(algorithm.theta.outer.weight.clone())
        return np.full((8, 9, 3), 10 * len(seen), np.uint8)

    _, _, ema = run(tmp_path, algorithm=algorithm, render_samples=render_samples, iterations=4, show_every=2)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["000002.png", "000004.png"]
    assert np.asarray(Image.open(tmp_path / "samples" / "000004.png")).max() == 20
    assert not torch.equal(seen[1], algorithm.theta.outer.weight)
    with ema.swapped(algorithm.theta):
        assert torch.equal(seen[1], algorithm.theta.outer.weight)


def test_a_disk_without_room_is_refused_before_the_first_rollout(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "free_space", lambda run: 1000.0)
    with pytest.raises(OSError, match=f"{tmp_path} has 0.0 MiB left, and the checkpoints of this run need"):
        run(tmp_path, algorithm=toy_algorithm(collect=lambda iteration, clock: pytest.fail("drew a rollout")))

"""Velocities, rows, a network of two numbers, and short runs on the toy world, for losses that weigh flow matching."""

import json
from collections.abc import Callable
from functools import partial

import torch
from nft_toys import DATA, ToyNet, three, toy_collect
from tensordict import TensorDict
from torch import nn

from algorithms import controls, coupling
from algorithms.launch import start_accelerator
from algorithms.renoise import Renoise, total_reward
from algorithms.trainer import Algorithm, TrainConfig, train
from cellenv.path import lift

SHAPE = (4, 2, 3, 4)  # B == W, where broadcasting hides


def draw(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient(loss: Callable, v_theta, *args, **kwargs):
    """Of the sum over rows, in v_theta."""
    v_theta = v_theta.clone().requires_grad_()
    return torch.autograd.grad(loss(v_theta, *args, **kwargs).sum(), v_theta)[0]


class Scale(nn.Module):
    """v = a x_t + b t + mean(condition): knows which of its arguments is which."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x_t, t, condition):
        return self.a * x_t + self.b * lift(t, x_t) + lift(condition.mean(1), x_t)


def models():
    return Scale(0.3, 0.1), Scale(0.2, -0.1), Scale(0.5, 0.0)


def rows(**more):
    """Four rows as `Renoise` makes them, and more keys."""
    images = {"x0": draw(*SHAPE, seed=1).float(), "x1": draw(*SHAPE, seed=2).float()}
    other = {"condition": draw(4, 5, seed=3).float(), "t": torch.tensor([0.1, 0.5, 0.8, 0.999])}
    return TensorDict(images | other | more, batch_size=[4])


def check_module(loss, name, rows, expected):
    """What each module must keep: the formula, the pull, gradients for theta alone, nothing drawn."""
    before, out = torch.get_rng_state(), loss(rows)
    x0, x1, t, c = (rows[key] for key in ("x0", "x1", "t", "condition"))
    x_t = (1 - lift(t, x1)) * x0 + lift(t, x1) * x1
    v_theta, v_old, v_ref = (model(x_t, t, c) for model in (loss.model, loss.model_old, loss.model_ref))
    torch.testing.assert_close(out[name], expected(v_theta, v_old, x1 - x0).mean())
    torch.testing.assert_close(out["kl"], (v_theta - v_ref).square().mean().detach())
    torch.testing.assert_close(out["loss_kl"], loss.kl_weight * (v_theta - v_ref).square().mean())
    assert set(out.keys()) == set(loss.out_keys)
    assert [key for key in loss.out_keys if out[key].requires_grad] == [name, "loss_kl"]
    (out[name] + out["loss_kl"]).backward()
    for learns in (lambda p: p.grad is not None, lambda p: p.requires_grad):
        assert {key for key, p in loss.named_parameters() if learns(p)} == {"model.a", "model.b"}
    assert torch.equal(torch.get_rng_state(), before)


def rollout(reward, group):
    """As from a `Bandit`: rewards in groups, images that hold their own row."""
    B = len(reward)
    data = {
        "group": torch.tensor(group),
        "sample": torch.arange(B),
        "x0": draw(B, 3, 4, 4, seed=1).float(),
        "action": torch.arange(float(B)).reshape(B, 1, 1, 1).expand(B, 3, 4, 4).clone(),
        "condition": draw(B, 5, seed=2).float(),
        "next": {"reward": torch.tensor(reward)[:, None]},
    }
    return TensorDict(data, batch_size=[B])


def brightness(folder, make: Callable, *, signal=total_reward, iterations=30):
    """Mean reward of each iteration on the toy world, where bright images are good.

    make: (theta, old, ref, renoise) -> (loss, prepare).
    """
    theta, old, ref = three(ToyNet())
    renoise = Renoise(coupling=partial(coupling.independent, data=DATA, noise_level=0.5), seed=5, signal=signal)
    loss, prepare = make(theta, old, ref, renoise)
    collect = toy_collect(old, DATA, groups=range(4), group_size=6, seed=5)
    algorithm = Algorithm(loss=loss, collect=collect, prepare=prepare, theta=theta, old=old, constant=[ref])
    config = TrainConfig(output_dir=folder, iterations=iterations, learning_rate=1e-2)
    train(start_accelerator(threads=1), config, algorithm)
    return [json.loads(line)["reward"] for line in (folder / "log.jsonl").read_text().splitlines()]


def check_learning(tmp_path, make):
    """Images get brighter, brighter than without a reward, and darker than that when its sign is turned."""
    signals = {"real": total_reward, "zero": controls.zero, "flipped": controls.flipped}
    reward = {name: brightness(tmp_path / name, make, signal=signal) for name, signal in signals.items()}
    end = {name: sum(values[-5:]) / 5 for name, values in reward.items()}
    assert reward["real"][0] == reward["flipped"][0] == reward["zero"][0]
    assert end["real"] > reward["real"][0] + 0.15
    assert end["real"] > end["zero"] + 0.1 > end["flipped"] + 0.2

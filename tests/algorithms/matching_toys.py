"""Tensors, a network of two weights and short toy runs for the losses on re-noised samples."""

import json
from collections.abc import Callable
from functools import partial

import torch
from tensordict import TensorDict
from torch import nn

from algorithms.advantages import total_reward
from algorithms.controls import flipped_reward, zero_reward
from algorithms.launch import start_accelerator
from algorithms.renoise import Renoise, independent_coupling
from algorithms.trainer import Algorithm, train
from cellenv.path import lift
from tests.algorithms.config_toys import train_config
from tests.algorithms.nft_toys import DATA, ToyNet, three_copies, toy_collect

SHAPE = (4, 2, 3, 4)  # B == W, where broadcasting hides


def draw(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient(loss: Callable, v_theta, *args, **kwargs):
    """Gradient in v_theta of the loss summed over rows."""
    v_theta = v_theta.clone().requires_grad_()
    return torch.autograd.grad(loss(v_theta, *args, **kwargs).sum(), v_theta)[0]


class Scale(nn.Module):
    """v = a x_t + b t + mean(condition): each argument has its own effect."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x_t, t, condition):
        return self.a * x_t + self.b * lift(t, x_t) + lift(condition.mean(1), x_t)


def omega(weighting, t):
    """Weight of the squared error by the name of the weighting."""
    return {"end-point": 3 * (1 - t) ** 2, "linear": 2 * (1 - t), "velocity": torch.ones_like(t)}[weighting]


def models():
    """Different theta, old and ref."""
    return Scale(0.3, 0.1), Scale(0.2, -0.1), Scale(0.5, 0.2)


def rows(**more):
    """Four rows as `Renoise` makes them, with more keys."""
    data = {
        "x0": draw(*SHAPE, seed=1).float(),
        "x1": draw(*SHAPE, seed=2).float(),
        "condition": draw(4, 5, seed=3).float(),
        "t": torch.tensor([0.1, 0.5, 0.8, 0.999]),
        "row": torch.arange(4),
    }
    return TensorDict(data | more, batch_size=[4])


def velocities_of(loss, rows):
    """v_theta, v_old, v_ref and v at the rows."""
    x0, x1, t, c = (rows[key] for key in ("x0", "x1", "t", "condition"))
    x_t = (1 - lift(t, x1)) * x0 + lift(t, x1) * x1
    return *(model(x_t, t, c) for model in (loss.model, loss.model_old, loss.model_ref)), x1 - x0


def check_outputs(loss, rows, learned):
    """Outputs of a loss that trains theta alone, by the outputs `learned`, and draws nothing."""
    rng_before = torch.get_rng_state()
    out = loss(rows)
    assert set(out.keys()) == set(loss.out_keys)
    assert [key for key in loss.out_keys if out[key].requires_grad] == learned
    sum(out[key] for key in learned).backward()
    assert {key for key, p in loss.named_parameters() if p.grad is not None} == {"model.a", "model.b"}
    assert {key for key, p in loss.named_parameters() if p.requires_grad} == {"model.a", "model.b"}
    assert torch.equal(torch.get_rng_state(), rng_before)
    return out.detach()


def check_module(loss, name, rows, expected, kl_weighting="linear"):
    """What every loss with a KL penalty must satisfy: its formula, the penalty, and `check_outputs`.

    expected: (v_theta, v_old, v) -> loss per row. Returns the outputs and the three velocities.
    """
    with torch.no_grad():
        v_theta, v_old, v_ref, v = velocities_of(loss, rows)
    out = check_outputs(loss, rows, [name, "loss_kl"])
    torch.testing.assert_close(out[name], expected(v_theta, v_old, v).mean())
    kl = (omega(kl_weighting, rows["t"]) * (v_theta - v_ref).square().flatten(1).mean(1)).mean()
    torch.testing.assert_close(out["kl"], kl)
    torch.testing.assert_close(out["loss_kl"], loss.kl_weight * kl)
    return out, (v_theta, v_old, v)


def rollout(reward, group):
    """Rollout as of a `RolloutCollector`, with given rewards and groups; every image is filled with its row index."""
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


def train_brightness(folder, make: Callable, *, reward_fn=total_reward, iterations=30):
    """Mean reward of each iteration on the toy world, which rewards bright images.

    make: (theta, old, ref, renoise) -> (loss, build_batch).
    """
    theta, old, ref = three_copies(ToyNet())
    coupling = partial(independent_coupling, data=DATA, noise_level=0.5)
    loss, build_batch = make(theta, old, ref, Renoise(coupling=coupling, seed=5, reward_fn=reward_fn))
    collect = toy_collect(old, DATA, groups=range(4), group_size=6, seed=5)
    algorithm = Algorithm(loss=loss, collect=collect, build_batch=build_batch, theta=theta, old=old, frozen=[ref])
    config = train_config(folder, iterations=iterations, learning_rate=1e-2)
    train(start_accelerator(threads=1), config, algorithm)
    return [json.loads(line)["reward"] for line in (folder / "log.jsonl").read_text().splitlines()]


def check_learning(tmp_path, make):
    """Images get brighter than without a reward, and darker than that with the flipped one."""
    reward_fns = {"real": total_reward, "zero": zero_reward, "flipped": flipped_reward}
    reward = {name: train_brightness(tmp_path / name, make, reward_fn=fn) for name, fn in reward_fns.items()}
    end = {name: sum(values[-5:]) / 5 for name, values in reward.items()}
    assert reward["real"][0] == reward["flipped"][0] == reward["zero"][0]
    assert end["real"] > reward["real"][0] + 0.15
    assert end["real"] > end["zero"] + 0.1 > end["flipped"] + 0.2

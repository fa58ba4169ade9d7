"""Toy data set, network and DiffusionNFT run that train within a test. B == W == 4 where possible."""

import copy
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import nn

from algorithms.advantages import identity, total_reward
from algorithms.clock import Clock
from algorithms.launch import start_accelerator
from algorithms.losses.nft import NFTLoss
from algorithms.old_policy import old_policy_decay
from algorithms.renoise import Renoise, independent_coupling
from algorithms.rollouts import draw_groups, groups_of_rank
from algorithms.train_config import OptimConfig
from algorithms.trainer import Algorithm, Forwarder, train, update
from cellenv.data.cells import CellData
from cellenv.path import lift, uniform_times
from cellenv.solvers import euler
from cellenv.streams import normal_like, rng_at
from tests.algorithms.config_toys import train_config


class ToyCells(CellData):
    """Noise around a level: controls -0.5 + 0.1 plate, treated images 0.3; the first pixel is row / 100."""

    channels = ("actin", "tubulin", "DNA")
    size = (3, 4, 4)
    compounds, moas = ("a", "b", "c"), ("up", "down")
    compound_moa = torch.tensor([0, 1, 1])

    def __init__(self, n: int = 60):
        rng = rng_at(11)
        self.conditions = torch.randn(3, 5, generator=rng)
        self.perturbation = torch.randint(-1, 3, (n,), generator=rng)
        self.plate = torch.randint(0, 3, (n,), generator=rng)
        self.keys = tuple(f"cell-{i}" for i in range(n))

    def images(self, rows):
        blank = torch.empty(len(rows), *self.size)
        level = torch.where(self.perturbation[rows] < 0, -0.5 + 0.1 * self.plate[rows], 0.3)
        images = lift(level, blank) + 0.1 * normal_like(blank, rows)
        images[:, 0, 0, 0] = rows / 100
        return images


DATA = ToyCells()


class ToyNet(nn.Module):
    """v(x_t, t, condition) of a perceptron on the flattened image."""

    def __init__(self, size=(3, 4, 4), condition=5, width=32, seed=0):
        super().__init__()
        features = size[0] * size[1] * size[2]
        self.inner = nn.Linear(features + 1 + condition, width)
        self.outer = nn.Linear(width, features)
        for i, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, std=0.2, generator=rng_at(seed, i))

    def forward(self, x_t, t, condition):
        h = torch.cat([x_t.flatten(1), t[:, None], condition], dim=1)
        return self.outer(torch.nn.functional.silu(self.inner(h))).reshape(x_t.shape)


def three_copies(model):
    """theta, old and ref, equal; old and ref frozen."""
    return model, copy.deepcopy(model).requires_grad_(False), copy.deepcopy(model).requires_grad_(False)


def brightness(images):
    return images.flatten(1).mean(1)


def toy_collect(model, data, *, groups, group_size, seed, steps=4, noise=0.5):
    """collect(iteration, clock): images of the model for groups of contexts, rewarded for brightness."""

    @torch.no_grad()
    def collect(iteration, clock):
        td = draw_groups(data, groups, group_size, seed=seed, iteration=iteration)
        with clock("rollout"):
            source = td["x0"] + noise * normal_like(td["x0"], td["seed"])
            condition = td["condition"]
            x1 = euler(lambda x, t: model(x, t, condition), source, uniform_times(steps))
        with clock("rewards"):
            score = brightness(x1)[:, None]
        step = TensorDict({"reward": score, "rewards": {"bright": score}}, batch_size=td.batch_size)
        return td.update({"source": source, "action": x1, "next": step})

    return collect


def toy_algorithm(model=None, *, accelerator=None, reward_fn=total_reward, **fields):
    """DiffusionNFT on four groups of six, shared among the ranks."""
    theta, old, ref = three_copies(model or ToyNet())
    rank, ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    coupling = partial(independent_coupling, data=DATA, noise_level=0.5)
    gather = accelerator.gather if accelerator else identity
    algorithm = Algorithm(
        loss=NFTLoss(theta, old, ref, beta=1.0, kl_weight=0.01),
        collect=toy_collect(old, DATA, groups=groups_of_rank(4, rank, ranks), group_size=6, seed=5),
        build_batch=Renoise(coupling=coupling, seed=5, gather=gather, reward_fn=reward_fn),
        theta=theta,
        old=old,
        old_decay=partial(old_policy_decay, slope=0.1),
        frozen=[ref],
    )
    return replace(algorithm, **fields)


def toy_run(output_dir, accelerator, *, before=lambda iteration: None, model=None, **config):
    """Train six iterations, or as config says; returns the loss module. before: called with every iteration."""
    algorithm = toy_algorithm(model, accelerator=accelerator)

    def collect(iteration, clock):
        before(iteration)
        return algorithm.collect(iteration, clock)

    defaults = {"iterations": 6, "micro_batch_size": 10, "learning_rate": 3e-3, "weight_decay": 1e-4, "save_every": 2}
    defaults |= {"epochs": 2, "optimizer_steps": 2}
    train(
        accelerator,
        train_config(Path(output_dir), **(defaults | config)),
        replace(algorithm, collect=collect),
        settings={"seed": "5"},
    )
    return algorithm.loss


def toy_gradient(accelerator):
    """Flattened gradient of the first iteration over all ranks."""
    algorithm = toy_algorithm(ToyNet(seed=accelerator.process_index), accelerator=accelerator)  # DDP sends rank 0's
    theta = algorithm.theta
    forwarder = accelerator.prepare(Forwarder(algorithm.loss))
    optimizer = accelerator.prepare(torch.optim.SGD(theta.parameters(), lr=0.0))
    batch = algorithm.build_batch(algorithm.collect(0, Clock()), 0)
    optim = OptimConfig(micro_batch_size=10, max_grad_norm=1e9)
    update(accelerator, forwarder, optimizer, batch, optim, Clock(), (5, 0))
    return torch.cat([parameter.grad.flatten() for parameter in theta.parameters()])


def signal_at(number, at):
    """A function that sends a signal to this process when it is called with iteration `at`."""

    def send(iteration):
        if iteration == at:
            os.kill(os.getpid(), number)

    return send


def main(output_dir, number=0, at=-1):
    """Subprocess of a test: a run to which a signal comes, or one that has no end."""
    iterations = 6 if number else 10**6
    toy_run(output_dir, start_accelerator(threads=1), before=signal_at(int(number), int(at)), iterations=iterations)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A data set, networks and a reward small enough to train in a test. B == W == 4 where it can be."""

import copy
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import nn

from algorithms import coupling
from algorithms.clock import Clock
from algorithms.launch import start_accelerator
from algorithms.losses.nft import NFTLoss, old_decay
from algorithms.renoise import Renoise, total_reward
from algorithms.rollouts import draw_groups, share
from algorithms.trainer import Algorithm, Forwarder, TrainConfig, train, update
from cellenv.data.cells import CellData
from cellenv.path import lift, uniform_times
from cellenv.solvers import euler
from cellenv.streams import normal_like, rng_at


class ToyCells(CellData):
    """Noise around a level: controls -0.5 + 0.1 batch, treated images +0.3; the first pixel holds the row / 100."""

    channels = ("actin", "tubulin", "DNA")
    size = (3, 4, 4)
    compounds, moas = ("a", "b", "c"), ("up", "down")
    compound_moa = torch.tensor([0, 1, 1])

    def __init__(self, n: int = 60):
        rng = rng_at(11)
        self.conditions = torch.randn(3, 5, generator=rng)
        self.perturbation = torch.randint(-1, 3, (n,), generator=rng)
        self.batch = torch.randint(0, 3, (n,), generator=rng)
        self.keys = tuple(f"cell-{i}" for i in range(n))

    def images(self, rows):
        level = torch.where(self.perturbation[rows] < 0, -0.5 + 0.1 * self.batch[rows], 0.3)
        images = lift(level, torch.empty(len(rows), *self.size)) + 0.1 * normal_like(
            torch.empty(len(rows), *self.size), rows
        )
        images[:, 0, 0, 0] = rows / 100
        return images


DATA = ToyCells()


class ToyNet(nn.Module):
    """v(x_t, t, condition) of a perceptron; the whole image is its input."""

    def __init__(self, size=(3, 4, 4), condition=5, width=32, seed=0):
        super().__init__()
        self.size, features = size, size[0] * size[1] * size[2]
        self.inner = nn.Linear(features + 1 + condition, width)
        self.outer = nn.Linear(width, features)
        for i, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, std=0.2, generator=rng_at(seed, i))

    def forward(self, x_t, t, condition):
        h = torch.cat([x_t.flatten(1), t[:, None], condition], dim=1)
        return self.outer(torch.nn.functional.silu(self.inner(h))).reshape(x_t.shape)


def three(model):
    """theta, old and ref, equal."""
    return model, copy.deepcopy(model).requires_grad_(False), copy.deepcopy(model).requires_grad_(False)


def toy_collect(model, data, *, groups, group_size, seed, steps=4, noise=0.5, reward=None):
    """collect(iteration, clock): what the model makes of groups of contexts; rewarded for brightness by default."""

    def brightness(images):
        return images.flatten(1).mean(1)

    @torch.no_grad()
    def collect(iteration, clock):
        td = draw_groups(data, groups, group_size, seed=seed, iteration=iteration)
        with clock("rollout"):
            source = td["x0"] + noise * normal_like(td["x0"], td["seed"])
            condition = td["condition"]
            x1 = euler(lambda x, t: model(x, t, condition), source, uniform_times(steps))
        with clock("rewards"):
            score = (reward or brightness)(x1)[:, None]
        step = TensorDict({"reward": score, "rewards": {"bright": score}}, batch_size=td.batch_size)
        return td.update({"source": source, "action": x1, "next": step})

    return collect


def toy_algorithm(model=None, *, accelerator=None, signal=total_reward, **options):
    """DiffusionNFT on four groups of six, shared among the ranks."""
    theta, old, ref = three(model or ToyNet())
    ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    coupled = partial(coupling.independent, data=DATA, noise_level=0.5)
    gather = accelerator.gather if accelerator else lambda x: x
    return Algorithm(
        **{
            "loss": NFTLoss(theta, old, ref, beta=1.0, kl_weight=0.01),
            "collect": toy_collect(old, DATA, groups=share(4, *ranks), group_size=6, seed=5),
            "prepare": Renoise(coupling=coupled, seed=5, gather=gather, signal=signal),
            "theta": theta,
            "old": old,
            "decay": partial(old_decay, slope=0.1),
            "constant": [ref],
        }
        | options
    )


def toy_run(output_dir, accelerator, *, pause=0.0, model=None, **config):
    """Six iterations, or as the config says; returns the loss module, with theta, old and ref inside."""
    algorithm = toy_algorithm(model, accelerator=accelerator)

    def slowly(iteration, clock):
        time.sleep(pause)
        return algorithm.collect(iteration, clock)

    usual = {"iterations": 6, "micro_batch": 10, "learning_rate": 3e-3, "weight_decay": 1e-4, "save_every": 2}
    config = TrainConfig(output_dir=Path(output_dir), **(usual | config))
    train(accelerator, config, replace(algorithm, collect=slowly), settings={"seed": 5})
    return algorithm.loss


def toy_gradient(accelerator):
    """The gradient of the first iteration over all ranks, flat."""
    algorithm = toy_algorithm(ToyNet(seed=accelerator.process_index), accelerator=accelerator)  # DDP sends rank 0's
    theta = algorithm.theta
    forwarder = accelerator.prepare(Forwarder(algorithm.loss))
    optimizer = accelerator.prepare(torch.optim.SGD(theta.parameters(), lr=0.0))
    rows = algorithm.prepare(algorithm.collect(0, Clock()), 0)
    config = TrainConfig(output_dir=Path(), iterations=1, micro_batch=10, max_grad_norm=1e9)
    update(accelerator, forwarder, optimizer, list(theta.parameters()), rows, config, Clock())
    return torch.cat([parameter.grad.flatten() for parameter in theta.parameters()])


def main(output_dir, pause):
    """What a subprocess does: the gradient, then the run; every rank writes what it has."""
    accelerator = start_accelerator(threads=1)
    gradient = toy_gradient(accelerator)
    loss = toy_run(output_dir, accelerator, pause=float(pause), model=ToyNet(seed=accelerator.process_index))
    result = {"gradient": gradient, "weights": loss.state_dict(), "ranks": accelerator.num_processes}
    torch.save(result, f"{output_dir}/rank-{accelerator.process_index}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A data set, networks and a reward small enough to train in a test. B == W == 4 where it can be."""

import copy

import torch
from tensordict import TensorDict
from torch import nn

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
    from algorithms.rollouts import draw_groups

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

"""Best of N: equals choosing among all draws at once, is nested, and holds no more images for more draws."""

import itertools
import weakref

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from algorithms.selection import best_of_n, sample_ith
from cellenv.env import repeat_groups
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNetConfig

B, N = 4, 16
NAN = float("nan")


@pytest.fixture
def images():
    """N draws of B images with B == W."""
    return torch.randn(N, B, 2, 3, B, generator=torch.Generator().manual_seed(0))


def brightness(images):
    return images.flatten(1).mean(1)


def test_one_pass_equals_choosing_among_all_at_once(images):
    everything = torch.stack([brightness(draw) for draw in images])  # (N, B)
    for n, best in enumerate(best_of_n(lambda i: images[i], brightness, N), start=1):
        score, draw = everything[:n].max(0)
        assert torch.equal(best.score, score) and torch.equal(best.draw, draw)
        assert torch.equal(best.images, images[draw, torch.arange(B)])
    assert n == N and len(best.draw.unique()) > 1


def test_later_draws_do_not_change_earlier_results(images):
    found = list(best_of_n(lambda i: images[i], brightness, N))
    assert torch.equal(found[0].images, images[0]) and found[0].draw.eq(0).all()
    steps = torch.stack([best.score for best in found])
    assert (steps.diff(dim=0) >= 0).all() and (steps[-1] > steps[0]).all()


def test_nan_loses_and_of_equals_the_first_stays():
    table = torch.tensor([[NAN, 1.0, NAN, 5.0], [2.0, NAN, NAN, 5.0], [NAN, 0.0, NAN, 5.0], [2.0, 3.0, NAN, 4.0]])
    number = itertools.count()
    *_, best = best_of_n(lambda i: torch.full((4, 1, 1, 1), float(i)), lambda _: table[next(number)], 4)
    torch.testing.assert_close(best.score, torch.tensor([2.0, 3.0, NAN, 5.0]), equal_nan=True)
    assert best.draw.tolist() == best.images.flatten().tolist() == [1, 3, 0, 0]


@pytest.mark.parametrize("n", [4, 64])
def test_memory_does_not_grow_with_n(n):
    seen, most = [], 0  # images drawn and given out, by weak reference

    def draw(i):
        nonlocal most
        most = max(most, sum(reference() is not None for reference in seen))
        images = torch.randn(B, 1, 2, 2, generator=torch.Generator().manual_seed(i))
        seen.append(weakref.ref(images))
        return images

    for best in best_of_n(draw, brightness, n):
        seen.append(weakref.ref(best.images))
    assert len(seen) == 2 * n and 1 <= most <= 3  # the best, held here and there, and the draw before


def test_samples_are_those_of_a_group():
    class Shift(nn.Module):
        def forward(self, x_t, t, condition):
            return condition.mean(1).reshape(-1, 1, 1, 1).expand_as(x_t)

    config = UNetConfig(size=(3, 8, 8), condition_dim=2)
    generator = CellFlux(Shift(), config, Sampling(steps=2, noise_level=0.1))
    rng = torch.Generator().manual_seed(1)
    data = {"x0": torch.rand(3, 3, 8, 8, generator=rng) - 0.5, "condition": torch.randn(3, 2, generator=rng) / 10}
    contexts = TensorDict(data | {"seed": torch.tensor([5, 6, 2**61])}, [3])
    group = repeat_groups(contexts, 4)
    whole = generator.sample(group["x0"], group["condition"], group["seed"])[0].unflatten(0, (3, 4))
    draw = sample_ith(generator, contexts)
    assert all(torch.equal(draw(i), whole[:, i]) for i in (0, 3, 1))
    assert torch.equal(contexts["seed"], torch.tensor([5, 6, 2**61]))


def test_wrong_arguments_are_named(images):
    with pytest.raises(ValueError, match="at least one draw, got n = 0"):
        next(best_of_n(lambda i: images[i], brightness, 0))
    with pytest.raises(ValueError, match=r"one score an image, \(4,\); got \(4, 1\)"):
        next(best_of_n(lambda i: images[i], lambda x: brightness(x)[:, None], 2))

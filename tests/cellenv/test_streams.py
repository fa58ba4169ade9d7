import random

import numpy as np
import pytest
import torch

from cellenv.streams import normal_like, rng_at, seed_at, seed_global_streams


def test_noise_depends_on_the_seed_of_the_row_alone():
    x, seeds = torch.zeros(4, 2, 3), torch.tensor([5, 0, 2**62 - 1, 5])
    noise = normal_like(x, seeds)
    assert torch.equal(noise[0], noise[3])
    assert not torch.equal(noise[0], noise[1])
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(normal_like(x, seeds[order]), noise[order])
    assert torch.equal(normal_like(x[:1], seeds[1:2]), noise[1:2])


def test_noise_is_standard_normal_and_neighbouring_seeds_are_independent():
    noise = normal_like(torch.zeros(200, 500, dtype=torch.float64), torch.arange(200))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.02


def test_the_global_random_state_is_neither_read_nor_changed():
    before = torch.get_rng_state()
    first = normal_like(torch.zeros(1, 3), torch.tensor([1]))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(normal_like(torch.zeros(1, 3), torch.tensor([1])), first)


def test_every_part_of_a_key_counts():
    assert len({seed_at(*key) for key in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 2, 3), (3, 2, 1)]}) == 5
    assert 0 <= seed_at(2**62, 2**62) < 2**63
    assert torch.rand(1, generator=rng_at(3, 4)) == torch.rand(1, generator=rng_at(3, 4))


def test_normal_like_needs_one_seed_per_row():
    with pytest.raises(ValueError, match="one seed per sample"):
        normal_like(torch.zeros(3, 3), torch.zeros(2, dtype=torch.int64))
    assert normal_like(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)


def test_global_streams_repeat_with_the_seed():
    def draw(*key):
        with torch.random.fork_rng():
            seed_global_streams(*key)
            return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    assert draw(3, 0) == draw(3, 0)
    assert not {*draw(3, 0)} & {*draw(3, 1)}

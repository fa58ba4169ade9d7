"""The policy in the environment with a reward on top: what a rollout holds, in any chunks."""

import pytest
import torch
from nft_toys import DATA
from torch import nn
from torchrl.envs import Compose, TransformedEnv

from algorithms.clock import Clock
from algorithms.rollouts import Bandit, share
from cellenv.env import VirtualCellEnv
from cellenv.generator import CellFlux, GeneratorPolicy, Sampling
from cellenv.networks import UNetConfig
from rewards.transforms import ImageReward, WeightedSum


class Drift(nn.Module):
    """v = condition's mean, everywhere."""

    def forward(self, x_t, t, condition, keep=None):
        return condition.mean(1)[:, None, None, None].expand_as(x_t)


@pytest.fixture
def bandit():
    def make(chunk=5):
        config = UNetConfig(size=(3, 4, 4), condition_dim=5, width=8, multipliers=(1,), attention=())
        generator = CellFlux(Drift(), config, Sampling(noise_level=0.5, steps=2, solver="euler"))
        rewards = Compose(ImageReward("bright", lambda images: images.flatten(1).mean(1)), WeightedSum({"bright": 2.0}))
        return Bandit(
            env=TransformedEnv(VirtualCellEnv(DATA), rewards),
            policy=GeneratorPolicy(generator),
            data=DATA,
            groups=range(2, 5),
            group_size=4,
            seed=0,
            chunk=chunk,
            device=torch.device("cpu"),
        )

    return make


def test_a_rollout_holds_contexts_images_and_rewards(bandit):
    td = bandit()(7, Clock())
    assert td.batch_size == (12,)
    assert td["group"].tolist() == [2] * 4 + [3] * 4 + [4] * 4 and td["sample"].tolist() == list(range(8, 20))
    expected = (td["source"] + td["condition"].mean(1)[:, None, None, None]).clamp(-1, 1)
    torch.testing.assert_close(td["action"], expected)
    bright = td["action"].flatten(1).mean(1, keepdim=True)
    torch.testing.assert_close(td["next", "rewards", "bright"], bright)
    torch.testing.assert_close(td["next", "reward"], 2 * bright)
    assert len(td["source"][:, 0, 0, 0].unique()) == 12 and len(td["x0"][:, 0, 0, 0].unique()) <= 3


def test_chunks_do_not_matter_and_iterations_do(bandit):
    whole, parts, other = bandit(12)(7, Clock()), bandit(5)(7, Clock()), bandit()(8, Clock())
    for key in ("x0", "source", "action", "seed", ("next", "reward")):
        assert torch.equal(whole[key], parts[key])
    assert not torch.equal(whole["seed"], other["seed"])


def test_time_is_booked_where_it_went(bandit):
    clock = Clock()
    bandit()(7, clock)
    assert {"rollout", "rewards", "other", "total"} == set(clock.lap())


def test_groups_are_shared_evenly_and_a_few_are_added_where_they_cannot_be():
    assert [share(12, rank, 3) for rank in range(3)] == [range(0, 4), range(4, 8), range(8, 12)]
    assert [share(12, rank, 8) for rank in range(8)] == [range(2 * rank, 2 * rank + 2) for rank in range(8)]

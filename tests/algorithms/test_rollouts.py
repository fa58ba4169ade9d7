"""Rollouts: contents, independence of the batch size, groups per rank, timing."""

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import nn
from torchrl.envs import Compose, TransformedEnv

from algorithms.clock import Clock
from algorithms.rollouts import RolloutCollector, draw_groups, groups_of_rank
from cellenv.env import VirtualCellEnv
from cellenv.generator import CellFlux, GeneratorPolicy, Sampling
from cellenv.networks import UNetConfig
from rewards.transforms import ImageReward, WeightedSum
from tests.algorithms.nft_toys import DATA, brightness


class ConditionMean(nn.Module):
    """v = mean of the condition, in every pixel."""

    def forward(self, x_t, t, condition, keep=None):
        return condition.mean(1)[:, None, None, None].expand_as(x_t)


def collector(batch_size=5):
    config = UNetConfig(size=(3, 4, 4), condition_dim=5, width=8, multipliers=(1,), attention=())
    generator = CellFlux(ConditionMean(), config, Sampling(noise_level=0.5, steps=2, solver="euler"))
    rewards = Compose(ImageReward("bright", brightness), WeightedSum({"bright": 2.0}))
    return RolloutCollector(
        env=TransformedEnv(VirtualCellEnv(DATA), rewards),
        policy=GeneratorPolicy(generator),
        data=DATA,
        groups=range(2, 5),
        group_size=4,
        seed=0,
        batch_size=batch_size,
        device=torch.device("cpu"),
    )


def test_a_rollout_holds_contexts_images_and_rewards():
    td = collector()(7, Clock())
    assert td.batch_size == (12,)
    assert td["group"].tolist() == [2] * 4 + [3] * 4 + [4] * 4 and td["sample"].tolist() == list(range(8, 20))
    expected = (td["source"] + td["condition"].mean(1)[:, None, None, None]).clamp(-1, 1)
    torch.testing.assert_close(td["action"], expected)
    bright = td["action"].flatten(1).mean(1, keepdim=True)
    torch.testing.assert_close(td["next", "rewards", "bright"], bright)
    torch.testing.assert_close(td["next", "reward"], 2 * bright)
    assert len(td["source"][:, 0, 0, 0].unique()) == 12 and len(td["x0"][:, 0, 0, 0].unique()) <= 3


def test_the_batch_size_does_not_matter_and_the_iteration_does():
    whole, parts, other = collector(12)(7, Clock()), collector(5)(7, Clock()), collector()(8, Clock())
    for key in ("x0", "source", "action", "seed", ("next", "reward")):
        assert torch.equal(whole[key], parts[key])
    assert not torch.equal(whole["seed"], other["seed"])


def test_a_scorer_gets_a_batch_before_the_next_is_drawn_and_every_image_its_reward():
    class Recorder:
        """Records what it is given."""

        submitted: ClassVar = []

        def submit(self, td, iteration):
            self.submitted.append((td["sample"].tolist(), iteration))
            scored = TensorDict({"reward": td["action"].flatten(1).mean(1, keepdim=True)}, td.batch_size)
            return SimpleNamespace(result=lambda: scored)

    drawn = collector(5)
    bare = replace(drawn, env=VirtualCellEnv(DATA), scorer=Recorder())
    td = bare(7, Clock())
    assert Recorder.submitted == [([8, 9, 10, 11, 12], 7), ([13, 14, 15, 16, 17], 7), ([18, 19], 7)]
    torch.testing.assert_close(td["next", "reward"], td["action"].flatten(1).mean(1, keepdim=True))
    assert torch.equal(td["action"], drawn(7, Clock())["action"])


def test_time_is_recorded_per_phase():
    clock = Clock()
    collector()(7, clock)
    assert {"rollout", "rewards", "other", "total"} == set(clock.lap())


def test_every_rank_gets_equally_many_groups():
    assert [groups_of_rank(12, rank, 3) for rank in range(3)] == [range(0, 4), range(4, 8), range(8, 12)]
    assert [groups_of_rank(12, rank, 8) for rank in range(8)] == [range(2 * rank, 2 * rank + 2) for rank in range(8)]


def test_samples_of_a_group_differ_only_in_their_seed():
    td = draw_groups(DATA, range(5, 8), 4, seed=1, iteration=0)
    assert td["group"].tolist() == [5] * 4 + [6] * 4 + [7] * 4
    assert td["sample"].tolist() == list(range(20, 32))
    for key in ("x0", "condition", "perturbation", "moa", "plate"):
        assert torch.equal(td[key], td[key][::4].repeat_interleave(4, 0)), key
    assert len(td["seed"].unique()) == 12

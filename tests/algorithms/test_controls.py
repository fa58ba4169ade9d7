"""Control rewards: zero, flipped, shuffled within groups."""

import torch
from tensordict import TensorDict

from algorithms.controls import flipped_reward, shuffled_reward, zero_reward

GROUP = torch.tensor([4, 4, 4, 4, 9, 9, 9, 9])
ROLLOUT = TensorDict({"group": GROUP, "next": {"reward": torch.arange(8.0)[:, None]}}, [8])


def test_zero_and_flipped():
    assert torch.equal(zero_reward(ROLLOUT, 0), torch.zeros(8))
    assert torch.equal(flipped_reward(ROLLOUT, 0), -torch.arange(8.0))


def test_shuffled_is_a_uniform_permutation_within_groups():
    drawn = torch.stack([shuffled_reward(ROLLOUT, i, seed=0) for i in range(40)])
    assert torch.equal(drawn[:, :4].sort(1).values, torch.arange(4.0).expand(40, 4))
    assert torch.equal(drawn[:, 4:].sort(1).values, torch.arange(4.0, 8.0).expand(40, 4))
    assert (drawn.mean(0) - torch.tensor([1.5] * 4 + [5.5] * 4)).abs().max() < 0.8


def test_shuffled_depends_on_seed_iteration_and_group_alone():
    drawn = shuffled_reward(ROLLOUT, 3, seed=0)
    assert torch.equal(shuffled_reward(ROLLOUT, 3, seed=0), drawn)
    assert torch.equal(shuffled_reward(ROLLOUT[4:], 3, seed=0), drawn[4:])
    assert not torch.equal(shuffled_reward(ROLLOUT, 3, seed=1), drawn)
    assert not torch.equal(drawn[4:] - 4, drawn[:4])


def test_controls_change_the_reward_function_that_they_are_given():
    def doubled(rollout, iteration):
        return 2 * rollout["next", "reward"].squeeze(-1)

    assert torch.equal(flipped_reward(ROLLOUT, 0, reward_fn=doubled), -2 * torch.arange(8.0))
    permuted = shuffled_reward(ROLLOUT, 3, seed=0, reward_fn=doubled)
    assert torch.equal(permuted, 2 * shuffled_reward(ROLLOUT, 3, seed=0))

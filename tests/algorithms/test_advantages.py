"""Group advantages: closed forms, invariances, rewards that are not finite."""

import math

import pytest
import torch

from algorithms.advantages import advantage, batch_std, frac_reward_zero_std, group_std, optimality

GROUP = torch.tensor([7, 7, 7, 3, 3, 3])
REWARD = torch.tensor([1.0, 2.0, 6.0, -1.0, 0.0, 1.0])


def normalised(reward, group):
    return advantage(reward, group, batch_std(reward))


def test_batch_std_is_one_scale_for_all_groups():
    mean = REWARD.mean()
    Z = ((REWARD - mean) ** 2).mean().sqrt()
    expected = torch.tensor([-2.0, -1.0, 3.0, -1.0, 0.0, 1.0]) / (Z + 1e-4)
    torch.testing.assert_close(normalised(REWARD, GROUP), expected)


def test_groups_may_differ_in_size():
    reward, group = torch.tensor([1.0, 3.0, 0.0, 0.0, 1.0, 7.0, 4.0]), torch.tensor([0, 0, 1, 1, 1, 1, 2])
    centred = torch.tensor([-1.0, 1.0, -2.0, -2.0, -1.0, 5.0, 0.0])
    torch.testing.assert_close(advantage(reward, group, torch.tensor(1.0)), centred / 1.0001)


def test_group_std_scales_each_group():
    std = torch.tensor([(14 / 3) ** 0.5] * 3 + [(2 / 3) ** 0.5] * 3)
    torch.testing.assert_close(group_std(REWARD, GROUP).float(), std)
    expected = torch.tensor([-2.0, -1.0, 3.0, -1.0, 0.0, 1.0]) / (std + 1e-4)
    torch.testing.assert_close(advantage(REWARD, GROUP, group_std(REWARD, GROUP)), expected)


def test_order_shift_and_scale_of_rewards_do_not_matter():
    A = normalised(REWARD, GROUP)
    order = torch.tensor([4, 0, 3, 5, 2, 1])
    torch.testing.assert_close(normalised(REWARD[order], GROUP[order]), A[order])
    torch.testing.assert_close(normalised(300 * REWARD + 7, GROUP), A, rtol=1e-3, atol=0)
    per_group = advantage(REWARD, GROUP, group_std(REWARD, GROUP))
    shifted = 300 * REWARD + 50 * GROUP
    torch.testing.assert_close(advantage(shifted, GROUP, group_std(shifted, GROUP)), per_group, rtol=1e-3, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_does_not_affect_others(bad):
    reward, group = torch.cat([REWARD, torch.tensor([bad])]), torch.cat([GROUP, torch.tensor([3])])
    with_it = normalised(reward, group)
    torch.testing.assert_close(with_it[:-1], normalised(REWARD, GROUP))
    assert optimality(with_it)[-1] == 0.5
    torch.testing.assert_close(group_std(reward, group)[:-1], group_std(REWARD, GROUP))


def test_only_nan_gives_optimality_one_half():
    reward = torch.full((6,), math.nan)
    assert torch.equal(optimality(normalised(reward, GROUP)), torch.full((6,), 0.5))
    assert torch.equal(optimality(advantage(reward, GROUP, group_std(reward, GROUP))), torch.full((6,), 0.5))


@pytest.mark.parametrize("value", [0.1, 1e6 + 1 / 3, -7e-8])
def test_equal_rewards_give_optimality_one_half_exactly(value):
    reward = torch.full((6,), value)
    for scale in (batch_std(reward), group_std(reward, GROUP)):
        assert torch.equal(optimality(advantage(reward, GROUP, scale)), torch.full((6,), 0.5))
    assert frac_reward_zero_std(reward, GROUP) == 1


def test_frac_reward_zero_std_counts_samples_of_equal_groups():
    assert frac_reward_zero_std(torch.tensor([2.0, 2.0, 2.0, 1.0, 2.0, 3.0]), GROUP) == 0.5


def test_optimality_is_a_clipped_line():
    A = torch.tensor([-9.0, -5.0, -2.5, 0.0, 1.0, 5.0, 40.0])
    torch.testing.assert_close(optimality(A), torch.tensor([0.0, 0.0, 0.25, 0.5, 0.6, 1.0, 1.0]))


def test_batch_std_covers_all_ranks():
    others = torch.tensor([100.0, -100.0])
    everyone = torch.cat([REWARD, others])
    Z = batch_std(REWARD, gather=lambda mine: torch.cat([mine, others]))
    torch.testing.assert_close(Z, everyone.double().std(correction=0))


def test_a_column_of_rewards_raises():
    with pytest.raises(ValueError, match=r"need rewards and groups \(B,\); got \(6, 1\)"):
        normalised(REWARD[:, None], GROUP)

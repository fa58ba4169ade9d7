"""Group advantages: closed forms, invariances, rewards that are not finite."""

import math

import pytest
import torch
from tensordict import TensorDict

from algorithms.advantages import (
    advantage,
    batch_std,
    frac_reward_zero_std,
    group_std,
    normalised_rewards,
    optimality,
    signal_shares,
    within_group_score,
)

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


def rollout_of(group=GROUP, **rewards):
    values = {name: torch.as_tensor(value)[:, None] for name, value in rewards.items()}
    return TensorDict({"group": group, "next": {"rewards": values}}, [len(group)])


def signal(weights, group=GROUP, gather=lambda x: x, **rewards):
    return normalised_rewards(rollout_of(group, **rewards), 0, weights=weights, gather=gather)


OTHER = torch.tensor([0.0, 3.0, 0.0, 1.0, 1.0, 4.0])
WEIGHTS = {"a": 2.0, "b": 0.5}


def test_each_reward_is_normalised_by_its_own_deviation_inside_groups():
    a, b = torch.tensor([-2.0, -1.0, 3.0, -1.0, 0.0, 1.0]), torch.tensor([-1.0, 2.0, -1.0, -1.0, -1.0, 2.0])
    expected = 2 * a / (16 / 6) ** 0.5 + 0.5 * b / 2**0.5
    torch.testing.assert_close(signal(WEIGHTS, a=REWARD, b=OTHER).float(), expected)


def test_a_reward_times_a_thousand_changes_nothing():
    torch.testing.assert_close(signal(WEIGHTS, a=1000 * REWARD, b=OTHER), signal(WEIGHTS, a=REWARD, b=OTHER))


@pytest.mark.parametrize("constant", [torch.full((6,), 0.1), torch.tensor([0.3] * 3 + [7.7] * 3)])
def test_a_reward_that_is_constant_in_its_groups_leaves_the_others_as_they_are(constant):
    assert torch.equal(signal(WEIGHTS, a=REWARD, b=constant), signal({"a": 2.0}, a=REWARD))


def test_rounding_of_a_saturated_reward_is_not_amplified():
    saturated = 1 - 1e-7 * torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    assert within_group_score(saturated, GROUP).abs().max() < 2e-3


def test_nan_leaves_its_own_reward_alone_and_all_nan_is_unscorable():
    a, b = REWARD.clone(), OTHER.clone()
    a[2] = math.nan
    S = signal(WEIGHTS, a=a, b=b)
    assert S.isfinite().all() and torch.isclose(S[2], signal({"b": 0.5}, b=OTHER)[2])
    torch.testing.assert_close(
        within_group_score(a, GROUP)[:2] / within_group_score(a, GROUP)[1], torch.tensor([-1.0, 1.0]).double()
    )
    b[2] = math.nan
    assert signal(WEIGHTS, a=a, b=b).isnan().tolist() == [False, False, True, False, False, False]


def test_ranks_together_equal_one():
    whole = signal(WEIGHTS, a=REWARD, b=OTHER)
    for rank in (slice(0, 3), slice(3, 6)):
        sums = iter(both_ranks_sums())
        part = signal(WEIGHTS, GROUP[rank], lambda x, sums=sums: next(sums), a=REWARD[rank], b=OTHER[rank])
        torch.testing.assert_close(part, whole[rank])


def both_ranks_sums():
    """What gathering gives in turn: count, sum of squares and size of each reward, of both ranks."""
    for reward in (REWARD, OTHER):
        centred = reward - reward.reshape(2, 3).mean(1).repeat_interleave(3)
        for value in (torch.ones(6), centred.square(), reward.square()):
            yield value.double().reshape(2, 3).sum(1)


def test_shares_of_the_signal_sum_to_one_and_follow_the_weights():
    rollout = rollout_of(a=REWARD, b=OTHER)
    assert signal_shares(rollout) == {}
    S = normalised_rewards(rollout, 0, weights=WEIGHTS)
    shares = signal_shares(rollout)
    assert shares["a"] == pytest.approx(float((rollout["signal", "a"] * S).sum() / S.square().sum()))
    assert sum(shares.values()) == pytest.approx(1) and shares["a"] > shares["b"]
    alone = rollout_of(a=REWARD, b=OTHER)
    normalised_rewards(alone, 0, weights={"a": 2.0, "b": 0.0})
    assert signal_shares(alone) == {"a": 1.0, "b": 0.0}


def test_shares_of_the_signal_are_of_all_ranks():
    rollout = rollout_of(a=REWARD, b=OTHER)
    S = normalised_rewards(rollout, 0, weights=WEIGHTS)
    whole = signal_shares(rollout)
    products = [S.square(), *(term * S for term in rollout["signal"].values())]
    for rank in (slice(0, 3), slice(3, 6)):
        gathered = iter(product.reshape(2, 3).sum(1) for product in products)
        assert signal_shares(rollout[rank], lambda x, gathered=gathered: next(gathered)) == pytest.approx(whole)


def test_a_missing_reward_is_named():
    with pytest.raises(ValueError, match="need the rewards c; the rollout has a, b"):
        signal({"a": 1.0, "c": 1.0}, a=REWARD, b=OTHER)

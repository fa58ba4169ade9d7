"""Max-variance down-sampling: closed forms, ties, rewards that are not finite, the variance that it keeps."""

from itertools import combinations

import pytest
import torch

from algorithms.downsampling import max_variance_rows, rank_in_group

NAN, INF = float("nan"), float("inf")


def rows(reward, group, keep):
    return max_variance_rows(torch.tensor(reward), torch.tensor(group), keep=keep).tolist()


def test_the_lowest_and_the_highest_of_each_group_are_kept():
    reward, group = [5.0, 0.0, 3.0, 9.0, 1.0, -4.0, -1.0, -3.0, -2.0], [7, 7, 2, 7, 7, 2, 2, 2, 2]
    assert rows(reward, group, 2) == [1, 2, 3, 5]
    assert rows(reward, group, 3) == [0, 1, 2, 3, 5, 6]  # of an odd number, one more of the highest
    assert rows(reward, group, 4) == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("keep", [2, 3, 4, 5])
def test_every_group_keeps_equally_many_whatever_its_ties_and_its_size(keep):
    reward = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, NAN])
    group = torch.tensor([4] * 5 + [1] * 7)
    kept = max_variance_rows(reward, group, keep=keep)
    assert kept.unique().equal(kept) and torch.bincount(group[kept]).tolist() == [0, keep, 0, 0, keep]
    assert 7 in kept and 11 not in kept


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_is_kept_only_where_too_few_are(bad):
    reward, group = [bad, 1.0, bad, 2.0, 0.0], [0] * 5
    assert rows(reward, group, 2) == [3, 4]
    assert rows(reward, group, 3) == [1, 3, 4]
    assert rows(reward, group, 4) == [0, 1, 3, 4]
    assert rows([bad, bad, bad], [3, 3, 3], 2) == [0, 1]


def test_all_of_a_group_are_all_of_it():
    assert rows([3.0, 1.0, 2.0], [0, 0, 0], 3) == [0, 1, 2]


def test_no_other_rows_of_a_reward_of_two_values_vary_more():
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        reward = torch.randint(2, (7,), generator=rng).double()
        kept = max_variance_rows(reward, torch.zeros(7, dtype=torch.int64), keep=4)
        best = max(reward[list(chosen)].var() for chosen in combinations(range(7), 4))
        assert reward[kept].var() == best


def test_order_of_the_rows_does_not_matter():
    rng = torch.Generator().manual_seed(1)
    reward, group = torch.randn(12, generator=rng), torch.arange(12) % 3
    order = torch.randperm(12, generator=rng)
    kept = order[max_variance_rows(reward[order], group[order], keep=3)]
    assert torch.equal(kept.sort().values, max_variance_rows(reward, group, keep=3))


def test_ranks_are_within_groups():
    value = torch.tensor([5.0, 1.0, NAN, 3.0, 1.0, 0.0])
    assert rank_in_group(value, torch.tensor([1, 1, 1, 0, 1, 0])).tolist() == [2, 0, 3, 1, 1, 0]


@pytest.mark.parametrize("keep", [1, 4])
def test_more_than_a_group_has_or_too_few_raise(keep):
    with pytest.raises(ValueError, match=f"need 2 <= keep <= 3, the samples of a group; got {keep}"):
        rows([0.0] * 7, [0, 0, 0, 1, 1, 1, 1], keep)

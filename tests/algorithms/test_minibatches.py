"""Minibatches: each row once, all groups in each, another deal every epoch, the same on any number of ranks."""

from itertools import chain

import pytest
import torch
from tensordict import TensorDict

from algorithms.minibatches import minibatches

KEY = (3, 7, 0)  # seed, iteration, epoch


@pytest.fixture
def batch():
    """Two noisy steps (the first 24 rows, then the last) of four groups of six."""
    group = torch.arange(4).repeat_interleave(6).repeat(2)
    return TensorDict({"row": torch.arange(48), "group": group}, [48])


def rows(parts):
    return [part["row"].tolist() for part in parts]


def joined(lists):
    return sorted(chain.from_iterable(lists))


def test_each_row_is_used_once_and_every_minibatch_holds_all_groups_alike(batch):
    parts = minibatches(batch, 3, KEY)
    assert joined(rows(parts)) == list(range(48))
    assert all(torch.bincount(part["group"]).tolist() == [4, 4, 4, 4] for part in parts)
    uneven = minibatches(batch, 5, KEY)
    assert [torch.bincount(part["group"]).tolist() for part in uneven] == 2 * [4 * [3]] + 3 * [4 * [2]]


def test_every_seed_iteration_epoch_and_group_has_a_deal_of_its_own(batch):
    assert rows(minibatches(batch, 2, KEY)) == rows(minibatches(batch, 2, KEY))
    for other in ((4, 7, 0), (3, 8, 0), (3, 7, 1)):
        assert rows(minibatches(batch, 2, KEY)) != rows(minibatches(batch, 2, other))
    first = minibatches(batch, 2, KEY)[0]
    place = first["row"] % 6 + 6 * (first["row"] // 24)  # among the rows of its group
    assert len({tuple(place[first["group"] == g].tolist()) for g in range(4)}) > 1


def test_the_parts_of_two_ranks_are_those_of_one_process(batch):
    ranks = [minibatches(batch[(batch["group"] // 2) == rank], 4, KEY) for rank in (0, 1)]
    for s, whole in enumerate(rows(minibatches(batch, 4, KEY))):
        of_ranks = rows([ranks[0][s], ranks[1][s]])
        assert joined(of_ranks) == sorted(whole) and len(of_ranks[0]) == len(of_ranks[1])


def test_one_part_is_the_batch_and_rows_without_a_group_are_one_group(batch):
    assert minibatches(batch, 1, KEY)[0] is batch
    sizes = [len(part) for part in minibatches(batch.exclude("group"), 5, KEY)]
    assert sizes == [10, 10, 10, 9, 9]


def test_fewer_rows_than_parts_raise(batch):
    with pytest.raises(ValueError, match="at least one row of every group in 13 optimizer steps; one has 12"):
        minibatches(batch, 13, KEY)

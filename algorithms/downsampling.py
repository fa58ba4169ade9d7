"""Max-variance down-sampling (PODS, arXiv:2504.13818): train on the best and the worst images of each group.

Drawing an image costs less than learning from it, and the images in the middle of a group teach little. B samples,
G groups.
"""

import torch
from torch import Tensor


def max_variance_rows(reward: Tensor, group: Tensor, *, keep: int) -> Tensor:
    """Row indices of the floor(keep / 2) lowest and ceil(keep / 2) highest rewards of each group, (G keep,) ascending.

    reward, group: (B,). Of equal rewards, the earlier row counts as the lower. A reward that is not finite is chosen
    only where a group has fewer than `keep` finite ones. If a reward has two values and `keep` is even, no other rows
    have a larger variance. Departure: the paper searches all splits into lowest and highest, not only halves.

    Raises:
        ValueError: keep is not between 2 and the size of the smallest group.
    """
    ids, member, size = group.unique(return_inverse=True, return_counts=True)
    if not 2 <= keep <= size.min():
        raise ValueError(f"need 2 <= keep <= {size.min().item()}, the samples of a group; got {keep}")
    finite = torch.bincount(member[reward.isfinite()], minlength=len(ids))[member]  # in each sample's group, (B,)
    rank = rank_in_group(reward, member)
    lowest, highest = keep // 2, keep - keep // 2
    chosen = (rank < lowest) | ((finite - highest <= rank) & (rank < finite))
    return torch.where(finite < keep, rank < keep, chosen).nonzero().squeeze(1)


def rank_in_group(value: Tensor, member: Tensor) -> Tensor:
    """Rank of each value within its group, 0 for the lowest, (B,) int64; what is not finite ranks last.

    member: (B,) int64, the groups counted from 0. Of equal values, the earlier row ranks lower.
    """
    order = torch.argsort(value.where(value.isfinite(), torch.inf), stable=True)
    order = order[torch.argsort(member[order], stable=True)]  # by group, then by value
    size = torch.bincount(member)
    start = size.cumsum(0) - size  # position of each group in the order, (G,)
    rank = torch.empty_like(member)
    rank[order] = torch.arange(len(member), device=member.device) - start[member[order]]
    return rank

"""What real images earn, reward by reward: the level up to which a reward teaches."""

import math

import torch

from algorithms.build import RewardSuite
from algorithms.workers.scorer import FailurePolicy, OnFailure, score
from cellenv.data.cells import CellData
from cellenv.streams import rng_at
from rewards.steps import RewardSteps

STREAM = 2**31 - 4  # of the seed; no rollout uses it


@torch.no_grad()
def real_levels(
    data: CellData,
    suite: RewardSuite,
    *,
    device: torch.device | str,
    n: int,
    seed: int,
    batch_size: int,
    on_failure: OnFailure = "raise",
) -> dict[str, float]:
    """Mean of each reward over n random treated images of these cells, in batches of `batch_size`.

    An image that a reward cannot score does not count; a reward that can score none of them has no level.

    Raises:
        RewardError: a reward raised an error, and on_failure says so.
    """
    rng = rng_at(seed, STREAM)
    steps = RewardSteps(suite.transform(data.channels).to(device))
    policy = FailurePolicy(on_failure=on_failure, where="on real images")
    parts = []
    for rows in data.draw_treated(n, rng).split(batch_size):
        td = data.contexts(rows, rng).set("action", data.images(rows))
        parts.append(score(steps, td.to(device), policy))
    rewards = torch.cat(parts)["rewards"]
    means = {name: float(reward[reward.isfinite()].double().mean()) for name, reward in rewards.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}

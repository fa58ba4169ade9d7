"""Running moments against the moments of all values, forgetting, and the returns that they normalise."""

import pytest
import torch
from tensordict import TensorDict

from algorithms.returns import NormalisedReturns, RunningMoments

NAN = float("nan")
FOREVER = 1e12


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rollout(rewards, compound):
    """rewards: by name, (B,); the total is their sum."""
    step = {"reward": sum(rewards.values())[:, None], "rewards": {k: v[:, None] for k, v in rewards.items()}}
    return TensorDict({"perturbation": compound, "next": step}, [len(compound)])


@pytest.mark.parametrize("sizes", [[40], [1, 9, 30], [13, 13, 14]])
def test_moments_are_those_of_all_finite_values_of_an_id(sizes):
    values, ids = 3 + 2 * draw(40, 2, seed=1), torch.arange(40) % 4  # id 4 has none
    values[5, 0], values[6, 1] = NAN, float("inf")
    moments = RunningMoments(5, 2, memory=FOREVER)
    for part, of_part in zip(values.split(sizes), ids.split(sizes), strict=True):
        moments.update(part, of_part)
    for i in range(4):
        for k in range(2):
            x = values[ids == i, k].double()
            x = x[x.isfinite()]
            assert moments.count[i, k] == len(x)
            torch.testing.assert_close(moments.mean[i, k], x.mean())
            torch.testing.assert_close(moments.variance[i, k], x.var(correction=0))
    z = moments.standardize(values, ids)
    expected = (values.double() - moments.mean[ids]) / (moments.variance[ids].sqrt() + 1e-4)
    torch.testing.assert_close(z, expected, equal_nan=True)
    assert moments.count[4].sum() == moments.mean[4].sum() == moments.variance[4].sum() == 0


def test_older_values_fade():
    moments, ids = RunningMoments(1, 1, memory=10), torch.zeros(10, dtype=torch.int64)
    for level in (0.0, 8.0):
        for _ in range(20):
            moments.update(torch.full((10, 1), level), ids)
    assert moments.count == 10 and moments.mean == pytest.approx(8, abs=1e-4)
    moments.update(torch.zeros(10, 1), ids)
    assert moments.mean == pytest.approx(4, abs=1e-4) and moments.variance == pytest.approx(16, abs=1e-3)


def test_returns_are_normalised_by_compound_or_over_all():
    R, compound = draw(30, seed=2), torch.arange(30) % 3
    R = R * (1 + compound) + 10 * compound
    per_compound = NormalisedReturns({}, compounds=3, memory=FOREVER)(rollout({"a": R}, compound), 0)
    for c in range(3):
        mine = per_compound[compound == c]
        assert mine.mean() == pytest.approx(0, abs=1e-6) and mine.std(correction=0) == pytest.approx(1, abs=1e-3)
    over_all = NormalisedReturns({}, compounds=None, memory=FOREVER)(rollout({"a": R}, compound), 0)
    expected = ((R - R.mean()) / (R.std(correction=0) + 1e-4)).double()
    torch.testing.assert_close(over_all, expected, rtol=1e-4, atol=1e-5)


def test_rewards_have_the_shares_that_their_weights_say_whatever_their_units():
    compound = torch.zeros(4000, dtype=torch.int64)
    small, large = 0.01 * draw(4000, seed=3), 100 + 50 * draw(4000, seed=4)
    td = rollout({"small": small, "large": large}, compound)
    R = NormalisedReturns({"small": 2.0, "large": 1.0}, compounds=None, memory=FOREVER)(td, 0)
    assert R.std() == pytest.approx(1, abs=0.05)
    assert td["signal", "small"].var() / R.var() == pytest.approx(0.8, abs=0.03)
    torch.testing.assert_close(td["signal", "small"] + td["signal", "large"], R)
    rescaled = rollout({"small": 1000 * small + 7, "large": large}, compound)
    again = NormalisedReturns({"small": 2.0, "large": 1.0}, compounds=None, memory=FOREVER)(rescaled, 0)
    torch.testing.assert_close(again, R, rtol=0, atol=0.05)  # 1e-4 is added to the deviation, here 0.01


def test_a_reward_that_is_not_finite_is_left_out():
    compound = torch.zeros(6, dtype=torch.int64)
    a, b = draw(6, seed=5), draw(6, seed=6)
    a[0], a[1], b[1] = NAN, NAN, float("inf")
    td = rollout({"a": a, "b": b}, compound)
    R = NormalisedReturns({"a": 1.0, "b": 1.0}, compounds=1, memory=FOREVER)(td, 0)
    assert R[1].isnan() and R[0] == td["signal", "b"][0] and R[[0, 2, 3, 4, 5]].isfinite().all()
    total = NormalisedReturns({}, compounds=1, memory=FOREVER)(td, 0)
    assert total[:2].isnan().all() and total[2:].isfinite().all()


def test_ranks_share_their_moments():
    R, compound = draw(12, seed=7), torch.arange(12) % 3
    whole = NormalisedReturns({}, compounds=3, memory=FOREVER)(rollout({"a": R}, compound), 0)
    for rank in (0, 1):
        gathered = iter([R[:, None], compound])
        returns = NormalisedReturns({}, compounds=3, memory=FOREVER, gather=lambda _, g=gathered: next(g))
        mine = slice(6 * rank, 6 * rank + 6)
        assert torch.equal(returns(rollout({"a": R[mine]}, compound[mine]), 0), whole[mine])


def test_wrong_arguments_raise():
    with pytest.raises(ValueError, match="need memory > 0 values, got 0"):
        RunningMoments(1, 1, memory=0)
    returns = NormalisedReturns({"b": 1.0}, compounds=None, memory=1)
    with pytest.raises(ValueError, match="need the rewards b; the rollout has a"):
        returns(rollout({"a": torch.zeros(2)}, torch.zeros(2, dtype=torch.int64)), 0)

"""RFT: exactly the best k of each group are kept; flow matching on them."""

import copy
from functools import partial

import pytest
import torch

from algorithms.advantages import total_reward
from algorithms.controls import flipped_reward
from algorithms.losses.matching import TIME_WEIGHTS
from algorithms.losses.rft import RFTLoss, best_rows, build_rft_batch, rft_loss
from algorithms.renoise import Renoise, group_coupling
from cellenv.path import lift
from tests.algorithms.matching_toys import (
    SHAPE,
    Scale,
    check_learning,
    check_module,
    draw,
    gradient,
    models,
    omega,
    rollout,
    rows,
)

GROUP = torch.tensor([7, 2, 7, 2, 7, 2, 2])
REWARD = torch.tensor([0.1, 4.0, 0.3, -1.0, 0.2, 5.0, 3.0])


@pytest.mark.parametrize(("keep", "kept"), [(1, [2, 5]), (2, [1, 2, 4, 5]), (3, [0, 1, 2, 4, 5, 6])])
def test_the_best_of_each_group_are_kept(keep, kept):
    assert best_rows(REWARD, GROUP, keep=keep).tolist() == kept


def test_best_rows_equal_sorting_each_group():
    reward, group = draw(200, seed=0), torch.randint(0, 9, (200,), generator=torch.Generator().manual_seed(1))
    expected = []
    for g in group.unique().tolist():
        members = [i for i in range(200) if group[i] == g]
        expected += sorted(members, key=lambda i: -reward[i].item())[:4]
    assert best_rows(reward, group, keep=4).tolist() == sorted(expected)


def test_ties_keep_the_earlier_row_and_rewards_not_finite_rank_last():
    group = torch.arange(200) % 2
    assert best_rows(torch.zeros(200), group, keep=3).tolist() == [0, 1, 2, 3, 4, 5]
    reward = torch.tensor([float("nan"), float("inf"), -5.0, -9.0, float("nan"), float("nan"), float("nan")])
    assert best_rows(reward, GROUP, keep=1).tolist() == [2, 3]
    assert best_rows(reward, GROUP, keep=2).tolist() == [
        0,
        1,
        2,
        3,
    ]  # two of each group, finite or not


def test_gradient_is_that_of_flow_matching_on_scored_rows():
    v_theta, v = draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    scored = torch.tensor([True, False, True, True])
    expected = 2 * lift(scored.double(), v) * (v_theta - v) / v[0].numel()
    torch.testing.assert_close(gradient(rft_loss, v_theta, v, scored), expected)
    v_theta[1] = torch.nan
    assert rft_loss(v_theta, v, scored)[1] == 0
    assert rft_loss(v_theta.bfloat16(), v.bfloat16(), scored).dtype == torch.float32


def renoiser(reward_fn=total_reward, times_per_sample=3):
    coupling = partial(group_coupling, noise_level=0.5)
    return Renoise(coupling=coupling, seed=0, times_per_sample=times_per_sample, reward_fn=reward_fn)


def test_rows_are_those_of_the_best_with_their_usual_draws():
    data = rollout([1.0, 5.0, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    renoise = renoiser()
    batch, whole = build_rft_batch(data, 2, renoise=renoise, keep=2), renoise(data, 2)
    assert batch["x1"][:, 0, 0, 0].tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [5] * 3
    of_best = torch.isin(whole["x1"][:, 0, 0, 0], torch.tensor([1.0, 2, 3, 5]))
    for key in ("x0", "t", "condition"):
        assert torch.equal(batch[key], whole[key][of_best])
    assert batch["scored"].all()


def test_kept_samples_without_a_finite_reward_are_not_scored():
    nan = float("nan")
    data = rollout([nan, nan, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    batch = build_rft_batch(data, 0, renoise=renoiser(times_per_sample=2), keep=2)
    assert batch["x1"][:, 0, 0, 0].tolist() == [0, 0, 2, 2, 3, 3, 5, 5]
    assert batch["scored"].tolist() == [False, False, True, True, True, True, True, True]


def test_an_iteration_asks_once_for_rewards():
    """A reward_fn may have a state, as running returns have."""
    asked = []

    def reward_fn(rollout, iteration):
        asked.append(len(rollout))
        return total_reward(rollout, iteration)

    data = rollout([1.0, 5.0, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    build_rft_batch(data, 0, renoise=renoiser(reward_fn=reward_fn), keep=1)
    assert asked == [6]


def test_the_reward_fn_of_renoise_chooses():
    data = rollout([1.0, 5.0, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    batch = build_rft_batch(data, 0, renoise=renoiser(reward_fn=flipped_reward), keep=1)
    assert batch["x1"][:, 0, 0, 0].unique().tolist() == [0, 4]


@pytest.mark.parametrize("weighting", TIME_WEIGHTS)
def test_module_feeds_the_formula(weighting):
    scored = torch.tensor([True, True, False, True])
    data = rows(scored=scored)
    loss = RFTLoss(*models(), kl_weight=0.01, time_weight=TIME_WEIGHTS[weighting])
    check_module(
        loss,
        "loss_rft",
        data,
        lambda v_theta, _, v: omega(weighting, data["t"]) * rft_loss(v_theta, v, scored),
    )


def test_wrong_arguments_raise():
    theta = Scale(0.3, 0.1)
    with pytest.raises(ValueError, match="three sets of weights"):
        RFTLoss(theta, copy.deepcopy(theta), theta)
    for keep in (0, 4):
        with pytest.raises(ValueError, match=f"need 1 <= keep <= 3, the samples of a group; got {keep}"):
            best_rows(REWARD, GROUP, keep=keep)


def test_images_get_brighter(tmp_path):
    def make(theta, old, ref, renoise):
        return RFTLoss(theta, old, ref, kl_weight=0.01), partial(build_rft_batch, renoise=renoise, keep=1)

    check_learning(tmp_path, make)

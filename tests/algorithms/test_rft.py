"""Rejection fine-tuning: exactly the best k of each group are kept, and flow matching on them."""

import copy
from functools import partial

import pytest
import torch
from matching_toys import SHAPE, Scale, check_learning, check_module, draw, gradient, models, rollout, rows

from algorithms import controls, coupling
from algorithms.losses.rft import KeepBest, RFTLoss, best_rows, rft_loss
from algorithms.renoise import Renoise
from cellenv.path import lift

GROUP = torch.tensor([7, 2, 7, 2, 7, 2, 2])
REWARD = torch.tensor([0.1, 4.0, 0.3, -1.0, 0.2, 5.0, 3.0])


@pytest.mark.parametrize(("keep", "kept"), [(1, [2, 5]), (2, [1, 2, 4, 5]), (3, [0, 1, 2, 4, 5, 6])])
def test_the_best_of_each_group_are_kept(keep, kept):
    assert best_rows(REWARD, GROUP, keep=keep).tolist() == kept


def test_it_agrees_with_sorting_each_group_by_hand():
    reward, group = draw(200, seed=0), torch.randint(0, 9, (200,), generator=torch.Generator().manual_seed(1))
    expected = []
    for g in group.unique().tolist():
        members = [i for i in range(200) if group[i] == g]
        expected += sorted(members, key=lambda i: -reward[i].item())[:4]
    assert best_rows(reward, group, keep=4).tolist() == sorted(expected)


def test_equals_keep_the_earlier_and_nan_comes_last():
    group = torch.arange(200) % 2
    assert best_rows(torch.zeros(200), group, keep=3).tolist() == [0, 1, 2, 3, 4, 5]
    spoilt = torch.tensor([float("nan"), float("inf"), -5.0, -9.0, float("nan"), float("nan"), float("nan")])
    assert best_rows(spoilt, GROUP, keep=1).tolist() == [2, 3]
    assert best_rows(spoilt, GROUP, keep=2).tolist() == [0, 1, 2, 3]  # the group still gives two


def test_gradient_is_that_of_flow_matching_on_what_is_scored():
    v_theta, v = draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    scored = torch.tensor([True, False, True, True])
    expected = 2 * lift(scored.double(), v) * (v_theta - v) / v[0].numel()
    torch.testing.assert_close(gradient(rft_loss, v_theta, v, scored), expected)
    v_theta[1] = torch.nan
    assert rft_loss(v_theta, v, scored)[1] == 0
    assert rft_loss(v_theta.bfloat16(), v.bfloat16(), scored).dtype == torch.float32


def keep_best(keep, signal=None, times_per_sample=3):
    options = {"signal": signal} if signal else {}
    coupled = partial(coupling.group, noise_level=0.5)
    renoise = Renoise(coupling=coupled, seed=0, times_per_sample=times_per_sample, **options)
    return KeepBest(renoise=renoise, keep=keep), renoise


def test_rows_are_those_of_the_best_and_draw_what_they_would_have_drawn():
    data = rollout([1.0, 5.0, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    keep, renoise = keep_best(2)
    prepared, whole = keep(data, 2), renoise(data, 2)
    assert prepared["x1"][:, 0, 0, 0].tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [5] * 3
    of_these = torch.isin(whole["x1"][:, 0, 0, 0], torch.tensor([1.0, 2, 3, 5]))
    for key in ("x0", "t", "condition"):
        assert torch.equal(prepared[key], whole[key][of_these])
    assert prepared["scored"].all()


def test_a_group_without_enough_rewards_gives_rows_that_do_not_count():
    nan = float("nan")
    prepared = keep_best(2, times_per_sample=2)[0](rollout([nan, nan, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9]), 0)
    assert prepared["x1"][:, 0, 0, 0].tolist() == [0, 0, 2, 2, 3, 3, 5, 5]
    assert prepared["scored"].tolist() == [False, False, True, True, True, True, True, True]


def test_a_control_chooses_others():
    data = rollout([1.0, 5.0, 2.0, 3.0, 0.0, 9.0], [4, 4, 4, 9, 9, 9])
    prepared = keep_best(1, signal=controls.flipped)[0](data, 0)
    assert prepared["x1"][:, 0, 0, 0].unique().tolist() == [0, 4]


def test_module_feeds_the_formula():
    scored = torch.tensor([True, True, False, True])
    check_module(
        RFTLoss(*models(), kl_weight=0.01),
        "loss_rft",
        rows(scored=scored),
        lambda v_theta, _, v: rft_loss(v_theta, v, scored),
    )


def test_wrong_arguments_are_named():
    theta = Scale(0.3, 0.1)
    with pytest.raises(ValueError, match="three sets of weights"):
        RFTLoss(theta, copy.deepcopy(theta), theta)
    for keep in (0, 4):
        with pytest.raises(ValueError, match=f"need 1 <= keep <= 3, the samples of a group; got {keep}"):
            best_rows(REWARD, GROUP, keep=keep)


def test_images_get_brighter(tmp_path):
    def make(theta, old, ref, renoise):
        return RFTLoss(theta, old, ref, kl_weight=0.01), KeepBest(renoise=renoise, keep=1)

    check_learning(tmp_path, make)

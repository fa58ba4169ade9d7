"""Re-noising: distributions of sources and times, streams per row, and the rows of a rollout."""

from functools import partial

import pytest
import torch

from algorithms.renoise import (
    Renoise,
    generating_coupling,
    group_coupling,
    independent_coupling,
    row_streams,
)
from algorithms.rollouts import draw_groups, groups_of_rank
from cellenv.streams import rng_at
from tests.algorithms.nft_toys import ToyCells


@pytest.fixture(scope="module")
def data():
    return ToyCells()


@pytest.fixture
def samples(data):
    """Two groups of four (B == 8), with sources."""
    td = draw_groups(data, range(2), 4, seed=3, iteration=5)
    return td.set("source", td["x0"] + 1).set("action", -td["x0"])


def streams(n, start=0):
    return [rng_at(1, 2, i) for i in range(start, start + n)]


def row_of(images):
    """Row of an image, which the toy writes into its first pixel."""
    return (images[:, 0, 0, 0] * 100).round().long()


def test_independent_coupling_is_uniform_over_controls_of_the_same_plate(data, samples):
    many = samples[torch.zeros(2000, dtype=torch.long)]
    rows = row_of(independent_coupling(many, streams(2000), data=data, noise_level=0.0))
    eligible = ((data.perturbation < 0) & (data.plate == samples["plate"][0])).nonzero().squeeze(1)
    counts = torch.bincount(rows, minlength=len(data))
    assert counts.sum() == counts[eligible].sum()
    expected = 2000 / len(eligible)
    assert (counts[eligible] - expected).abs().max() < 5 * expected**0.5


def test_independent_coupling_adds_source_noise(data, samples):
    many = samples[torch.zeros(3000, dtype=torch.long)]
    bare = independent_coupling(many, streams(3000), data=data, noise_level=0.0)
    noise = independent_coupling(many, streams(3000), data=data, noise_level=0.7) - bare
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 0.7) < 0.01
    assert noise.mean(0).abs().max() < 0.07  # in every pixel
    assert len(noise[:, 0, 0, 0].unique()) == 3000


def test_group_coupling_is_the_same_control_with_fresh_noise(samples):
    noise = group_coupling(samples, streams(8), noise_level=0.5) - samples["x0"]
    assert abs(noise.mean()) < 0.06 and abs(noise.std() - 0.5) < 0.05
    assert len(torch.unique(noise[:, 0, 0, 0])) == 8


def test_generating_coupling_is_the_source(samples):
    assert torch.equal(generating_coupling(samples, streams(8)), samples["source"])


def test_a_row_draws_the_same_in_any_batch(data, samples):
    whole = independent_coupling(samples, streams(8), data=data)
    half = independent_coupling(samples[4:], streams(4, start=4), data=data)
    assert torch.equal(whole[4:], half)
    assert not torch.equal(whole[:4], half)


def test_streams_differ_in_every_part_of_their_name():
    def first(*name):
        return [torch.rand(2, generator=rng).tolist() for rng in row_streams(*name)]

    sample = torch.tensor([0, 1])
    base = first(1, 2, sample, 2)
    assert len({tuple(x) for x in base}) == 4
    assert first(1, 2, sample, 3)[:2] == base[:2]  # a third time per sample keeps the first two
    assert all(a != b for a, b in zip(base, first(1, 3, sample, 2), strict=True))
    assert all(a != b for a, b in zip(base, first(2, 2, sample, 2), strict=True))


def rollout(data, groups, iteration=5):
    td = draw_groups(data, groups, 4, seed=3, iteration=iteration)
    td["action"] = (td["sample"] / 100)[:, None, None, None].expand_as(td["x0"])
    return td.set("next", {"reward": ((td["sample"] % 4) * (1 + td["group"]))[:, None].float()})


def renoise(data, **kwargs):
    return Renoise(coupling=partial(independent_coupling, data=data), seed=3, **kwargs)


def test_rows_keep_sample_optimality_and_condition_together(data):
    td = rollout(data, range(3))
    rows = renoise(data, times_per_sample=3, noise_per="sample")(td, 5)
    sample = (rows["x1"][:, 0, 0, 0] * 100).round().long()
    assert torch.equal(sample, torch.arange(12).repeat_interleave(3))
    assert torch.equal(rows["condition"], td["condition"][sample])
    assert torch.equal(rows["row"], torch.arange(36))
    assert (rows["r"][sample % 4 == 3] > 0.5).all() and (rows["r"][sample % 4 == 0] < 0.5).all()
    assert len(rows["t"].unique()) == 36
    level = rows["x0"].flatten(1)[:, 1:].std(1)
    assert abs(level.mean() - 1) < 0.1  # source noise of level 1


@pytest.mark.parametrize("fields", [{}, {"stratified": True}, {"train_on": 3, "noise_per": "sample"}])
def test_two_ranks_build_the_rows_of_one(data, fields):
    """Contexts, noise, times, controls and Z do not depend on the rank."""
    everyone = renoise(data, **fields).select(rollout(data, range(4)), 5)[1]
    whole = renoise(data, **fields)(rollout(data, range(4)), 5)
    of_rank = renoise(data, gather=lambda own: everyone, **fields)
    halves = [of_rank(rollout(data, groups_of_rank(4, rank, 2)), 5) for rank in (0, 1)]
    for key in whole.keys():
        assert torch.equal(whole[key], torch.cat([half[key] for half in halves])), key
    assert len(halves[0]) == len(halves[1])


@pytest.mark.parametrize("train_on", [None, 3, 2])
def test_effects_common_to_a_group_cancel(data, train_on):
    """Sum of A_i f(x0'_i, t_i) over a group is 0 for any f, since the group shares x0' and t."""
    td = rollout(data, range(3))
    td["next", "reward"] = td["next", "reward"] ** 3  # not symmetric about its mean
    rows = renoise(data, times_per_sample=2, train_on=train_on)(td, 5)
    f = rows["t"] * rows["x0"].flatten(1).square().mean(1)
    assert len(f.unique()) == 3 * 2  # groups x times
    assert (rows["advantage"] * f).reshape(3, train_on or 4, 2).sum(1).abs().max() < 1e-5
    assert rows["advantage"].abs().max() > 0.5
    alone = renoise(data, times_per_sample=2, noise_per="sample")(rollout(data, range(3)), 5)
    assert len(alone["t"].unique()) == len(alone["x0"].flatten(1).unique(dim=0)) == 3 * 4 * 2


@pytest.mark.parametrize("stratified", [False, True])
def test_iterations_draw_differently(data, stratified):
    make = renoise(data, stratified=stratified)
    one, two = make(rollout(data, range(2)), 5), make(rollout(data, range(2), iteration=6), 6)
    assert not torch.isclose(one["t"], two["t"]).any() and not torch.isclose(one["x0"], two["x0"]).all()


def test_down_sampling_trains_on_the_extremes_with_advantages_among_them(data):
    td = rollout(data, range(3))
    td["next", "reward"] = torch.tensor([[3.0, 0.0, 1.0, 9.0], [2.0, 1.0, 4.0, 3.0], [0.0, 8.0, 6.0, 2.0]]).reshape(
        12, 1
    )
    rows = renoise(data, train_on=2, times_per_sample=1)(td, 5)
    assert torch.equal(rows["x1"], td["action"][[1, 3, 5, 6, 8, 9]])
    reward = torch.tensor([0.0, 9.0, 1.0, 4.0, 0.0, 8.0])
    centred = torch.tensor([-4.5, 4.5, -1.5, 1.5, -4.0, 4.0])
    torch.testing.assert_close(rows["advantage"], centred / (reward.std(correction=0) + 1e-4))
    assert td["next", "reward"].shape == (12, 1)  # the log sees all that were drawn
    usual = renoise(data, times_per_sample=1)(td, 5)
    assert torch.equal(rows["t"][::2], usual["t"][::4]) and torch.equal(rows["x0"][::2], usual["x0"][::4])


@pytest.mark.parametrize(("noise_per", "units"), [("group", 3), ("sample", 12)])
def test_stratified_times_of_a_unit_lie_in_different_strata(data, noise_per, units):
    rows = renoise(data, times_per_sample=3, stratified=True, noise_per=noise_per)(rollout(data, range(3)), 5)
    times = rows["t"].reshape(units, -1, 3)  # units, images, times
    assert torch.equal(times, times[:, :1].expand_as(times))
    strata = (times[:, 0] / 0.999 * 3).long()
    assert torch.equal(strata.sort(1).values, torch.arange(3).expand(units, 3))
    assert len(times[:, 0].unique()) == 3 * units


def test_the_quantile_of_the_times_is_used(data):
    short = renoise(data, times=lambda u: u / 4)(rollout(data, range(3)), 5)["t"]
    torch.testing.assert_close(short, renoise(data)(rollout(data, range(3)), 5)["t"] / 0.999 / 4)

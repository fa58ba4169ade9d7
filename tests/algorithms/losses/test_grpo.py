"""Flow-GRPO: the clipped ratio by hand, group advantages, what trains, learning on a toy."""

import copy
from functools import partial

import pytest
import torch
from tensordict.nn import ProbabilisticTensorDictSequential
from torchrl.objectives import ClipPPOLoss

from algorithms.advantages import total_reward
from algorithms.controls import flipped_reward, zero_reward
from algorithms.losses.grpo import GRPOLoss, build_grpo_batch
from algorithms.sde import SDEPolicy, TransitionPolicy, log_density, step_mean, transition_distribution
from algorithms.trainer import Algorithm
from cellenv.streams import rng_at
from tests.algorithms.nft_toys import ToyNet
from tests.algorithms.sde_toys import (
    tiny_unet,
    toy_collector,
    toy_generator,
    toy_rollout,
    toy_sampler,
    toy_train,
)


def moved(generator, by=0.02):
    """Copy with slightly different weights."""
    other = copy.deepcopy(generator)
    with torch.no_grad():
        for i, parameter in enumerate(other.parameters()):
            parameter += by * torch.randn(parameter.shape, generator=rng_at(17, i))
    return other


@pytest.fixture
def old():
    return toy_generator()


@pytest.fixture
def rows(old):
    sampler = toy_sampler(old)
    return build_grpo_batch(toy_rollout(old, sampler, groups=4, group_size=4), 0, sampler=sampler)


def log_prob(generator, rows):
    v = generator(rows["x_t"], rows["t"], rows["condition"])
    return log_density(rows["x_next"], step_mean(rows["x_t"], v, rows["h"]), rows["std"])


def gradient(value, generator):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(generator.parameters()))])


def test_loss_is_the_clipped_ratio_and_the_kl_penalty(old, rows):
    theta, ref, epsilon = moved(old), moved(old, 0.01), 0.003
    out = GRPOLoss(theta, ref, clip_epsilon=epsilon, kl_weight=0.3)(rows)
    ratio, A = (log_prob(theta, rows) - log_prob(old, rows)).exp(), rows["advantage"].squeeze(1)
    outside = (ratio - 1).abs() > epsilon
    cases = torch.stack([A > 0, ratio > 1], 1)[outside].unique(dim=0)
    assert len(cases) == 4 and not outside.all()  # good and bad samples, above and below the clip range
    by_hand = torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon) * A)
    torch.testing.assert_close(out["loss_grpo"], -by_hand.mean())
    torch.testing.assert_close(out["clip_ratio/region_mean"], outside.float().mean())
    torch.testing.assert_close(out["max_ratio"], ratio.max().detach())
    v, v_ref = (model(rows["x_t"], rows["t"], rows["condition"]) for model in (theta, ref))
    kl = ((rows["h"] / rows["std"]) ** 2 / 2 * (v - v_ref).square().flatten(1).mean(1)).mean()
    torch.testing.assert_close(out["kl"], kl.detach())
    torch.testing.assert_close(out["loss_kl"], 0.3 * kl)
    assert [key for key in out.keys() if out[key].requires_grad] == ["loss_grpo", "loss_kl"]


def test_kl_is_from_the_base_with_the_guidance_of_theta(old):
    """The base's own guidance does not count: kl is 0 for equal weights."""
    theta, ref = toy_generator(tiny_unet()), toy_generator(tiny_unet(), guidance=0.4)
    sampler = toy_sampler(theta)
    rows = build_grpo_batch(toy_rollout(theta, sampler, groups=2, group_size=4), 0, sampler=sampler)
    assert GRPOLoss(theta, ref)(rows)["kl"] == 0
    ref.guidance, theta.guidance = 0.0, 0.4
    assert GRPOLoss(theta, ref)(rows)["kl"] == 0


def test_the_first_gradient_is_reinforce(old, rows):
    """At theta = old the ratio is 1, and the gradient is that of -mean A log p."""
    theta = copy.deepcopy(old)
    out = GRPOLoss(theta, copy.deepcopy(old))(rows)
    assert out["max_ratio"] == 1 and out["clip_ratio/region_mean"] == 0 and out["kl"] == 0
    reinforce = -(rows["advantage"].squeeze(1) * log_prob(theta, rows)).mean()
    ours, known = gradient(out["loss_grpo"], theta), gradient(reinforce, theta)
    torch.testing.assert_close(ours, known, rtol=1e-4, atol=1e-7)
    assert known.norm() > 1e-3


def test_loss_equals_clip_ppo_loss_on_the_generator_as_an_actor(old, rows):
    theta = moved(old)
    actor = ProbabilisticTensorDictSequential(TransitionPolicy(theta), transition_distribution())
    clip_ppo = ClipPPOLoss(actor, None, entropy_bonus=False, clip_epsilon=0.01)
    ours, theirs = GRPOLoss(theta, old, clip_epsilon=0.01)(rows)["loss_grpo"], clip_ppo(rows)["loss_objective"]
    assert ours == theirs
    assert torch.equal(gradient(ours, theta), gradient(theirs, theta))


def test_advantages_are_normalised_within_a_group(old):
    sampler = toy_sampler(old)
    rollout = toy_rollout(old, sampler, groups=3, group_size=4)
    assert rollout["group"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    R = torch.tensor([1.0, 2, 3, 6, 10, 10, 10, 10, float("nan"), 1, 2, 3])

    def advantages(reward):
        batch = build_grpo_batch(rollout, 0, sampler=sampler, reward_fn=lambda td, i: reward)
        return batch["advantage"].reshape(2, 12)

    A = advantages(R)
    assert torch.equal(A[0], A[1])  # both steps of a path
    expected = [(R[:4] - 3) / (3.5**0.5 + 1e-4), torch.zeros(5), (R[9:] - 2) / ((2 / 3) ** 0.5 + 1e-4)]
    torch.testing.assert_close(A[0], torch.cat(expected))
    torch.testing.assert_close(advantages(3 * R + 7), A, rtol=1e-3, atol=0)


def test_only_theta_trains_and_nothing_is_drawn(old, rows):
    loss = GRPOLoss(theta := moved(old), ref := copy.deepcopy(old))
    trained = {id(parameter) for parameter in loss.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in theta.parameters()}
    before, keys = torch.get_rng_state(), set(rows.keys())
    first, second = loss(rows), loss(rows)
    assert torch.equal(first["loss_grpo"], second["loss_grpo"]) and torch.equal(torch.get_rng_state(), before)
    assert set(rows.keys()) == keys == set(loss.in_keys)
    (first["loss_grpo"] + first["loss_kl"]).backward()
    assert all(parameter.grad is None for parameter in ref.parameters())


def grpo(theta, ref, sampler, *, reward_fn=total_reward, kl_weight=0.01):
    return Algorithm(
        loss=GRPOLoss(theta, ref, clip_epsilon=0.01, kl_weight=kl_weight),
        collect=toy_collector(SDEPolicy(theta, sampler)),
        build_batch=partial(build_grpo_batch, sampler=sampler, reward_fn=reward_fn),
        theta=theta,
        old=theta,
        frozen=[ref],
    )


def test_reward_rises_and_falls_when_flipped(tmp_path):
    """Measured without the noise of training."""
    before, up, lines = toy_train(tmp_path / "up", grpo)
    _, down, _ = toy_train(tmp_path / "down", partial(grpo, reward_fn=flipped_reward))
    assert up > before + 0.15 and down < before - 0.15
    assert lines[0]["max_ratio"] > 1 and 0 < lines[-1]["clip_ratio/region_mean"] < 0.3


def test_kl_penalty_keeps_theta_near_the_base(tmp_path):
    _, _, free = toy_train(tmp_path / "free", grpo)
    before, after, held = toy_train(tmp_path / "held", partial(grpo, kl_weight=10.0))
    assert held[-1]["kl"] < 0.05 * free[-1]["kl"] and abs(after - before) < 0.05


def test_zero_reward_leaves_the_weights_unchanged(tmp_path):
    before, after, lines = toy_train(tmp_path, partial(grpo, reward_fn=zero_reward), iterations=2)
    assert after == before and lines[-1]["grad_norm"] == 0


def test_wrong_arguments_raise(old):
    with pytest.raises(ValueError, match="need two sets of weights"):
        GRPOLoss(old, old)
    with pytest.raises(ValueError, match="need 0 < clip_epsilon < 1 and kl_weight >= 0, got 0 and -1"):
        GRPOLoss(old, toy_generator(ToyNet()), clip_epsilon=0, kl_weight=-1)

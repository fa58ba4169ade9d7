"""The loss of GRPO and PPO: the clipped ratio and the KL penalty by hand, its first gradient, what trains."""

import copy

import pytest
import torch
from tensordict.nn import ProbabilisticTensorDictSequential
from torchrl.objectives import ClipPPOLoss

from algorithms.losses.grpo import GRPOLoss, build_grpo_batch
from algorithms.losses.matching import flow_matching
from algorithms.sde import TransitionPolicy, log_density, step_mean, transition_distribution
from cellenv.streams import rng_at
from tests.algorithms.nft_toys import ToyNet
from tests.algorithms.sde_toys import tiny_unet, toy_generator, toy_rollout, toy_sampler


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
    kl = flow_matching(v, v_ref).mean()  # the unit of the losses on re-noised samples
    torch.testing.assert_close(out["kl"], kl.detach())
    torch.testing.assert_close(out["loss_kl"], 0.3 * kl)
    ours, known = gradient(out["loss_kl"], theta), gradient(0.3 * kl, theta)
    torch.testing.assert_close(ours, known, rtol=1e-4, atol=1e-7)
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


def test_only_theta_trains_and_nothing_is_drawn(old, rows):
    loss = GRPOLoss(theta := moved(old), ref := copy.deepcopy(old))
    trained = {id(parameter) for parameter in loss.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in theta.parameters()}
    before, keys = torch.get_rng_state(), set(rows.keys())
    first, second = loss(rows), loss(rows)
    assert torch.equal(first["loss_grpo"], second["loss_grpo"]) and torch.equal(torch.get_rng_state(), before)
    assert set(rows.keys()) == keys == {*loss.in_keys, "group"}
    (first["loss_grpo"] + first["loss_kl"]).backward()
    assert all(parameter.grad is None for parameter in ref.parameters())


def test_wrong_arguments_raise(old):
    with pytest.raises(ValueError, match="need two sets of weights"):
        GRPOLoss(old, old)
    with pytest.raises(ValueError, match="need 0 < clip_epsilon < 1 and kl_weight >= 0, got 0 and -1"):
        GRPOLoss(old, toy_generator(ToyNet()), clip_epsilon=0, kl_weight=-1)

"""SDE sampler: likelihoods, its distribution in one dimension against the exact one, and the rows of a rollout."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from algorithms.sde import (
    SDESampler,
    TransitionPolicy,
    flatten_transitions,
    log_density,
    step_mean,
    transition_distribution,
    transitions,
    velocity_error,
)
from cellenv.path import lift, uniform_times
from cellenv.solvers import euler, heun, multistep
from cellenv.streams import normal_like, seed_at
from tests.algorithms.sde_toys import tiny_unet, toy_generator, toy_rollout, toy_sampler

SHAPE = (4, 2, 3, 4)  # B == W, where broadcasting hides


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_density_is_a_mean_over_the_image():
    x, mean = draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    std = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64)
    normal = Normal(mean, lift(std, x))
    torch.testing.assert_close(log_density(x, mean, std), normal.log_prob(x).flatten(1).mean(1))


def test_velocity_error_of_two_steps_and_their_kl_divergence():
    x, v, v_ref = (draw(*SHAPE, seed=seed) for seed in (1, 2, 3))
    h, eta = torch.tensor([0.1, 0.25, 0.5, 1.0], dtype=torch.float64), 0.7
    mean, mean_ref = step_mean(x, v, h), step_mean(x, v_ref, h)
    error = velocity_error(mean, mean_ref, h)
    torch.testing.assert_close(error, (v - v_ref).square().flatten(1).mean(1))
    std = lift(eta * h.sqrt(), x)
    kl = kl_divergence(Normal(mean, std), Normal(mean_ref, std)).flatten(1).mean(1)
    torch.testing.assert_close(h / (2 * eta**2) * error, kl)


@pytest.mark.parametrize("sde_window", [(0, 2), (1, 3), (2, 4), (0, 4)])
def test_sample_is_the_solver_with_noise_in_the_window(sde_window):
    def v(x, t):
        return torch.sin(3 * x) + lift(t, x)

    times = torch.tensor([0, 0.1, 0.3, 0.6, 1.0], dtype=torch.float64)
    sampler = SDESampler(times=times, sde_window=sde_window, eta=0.7, solver=heun)
    source, seed = draw(*SHAPE, seed=4), torch.tensor([5, 6, 7, 8])
    x1, path, log_prob = sampler.sample_with_log_prob(v, source, seed)
    first, end = sde_window
    x = heun(v, source, times[: first + 1]) if first else source
    for k, step in enumerate(range(first, end)):
        assert torch.equal(path[:, k], x)
        h = (times[step + 1] - times[step]).item()
        n = normal_like(x, torch.tensor([seed_at(s, k) for s in seed.tolist()]))
        mean, std = x + h * v(x, times[step].expand(4)), 0.7 * h**0.5
        x = mean + std * n
        torch.testing.assert_close(path[:, k + 1], x)
        torch.testing.assert_close(log_prob[:, k], Normal(mean, std).log_prob(x).flatten(1).mean(1))
        x = path[:, k + 1]
    assert path.shape == (4, end - first + 1, *SHAPE[1:]) and log_prob.shape == (4, end - first)
    assert torch.equal(x1, heun(v, x, times[end:]) if end < 4 else x)


class Line:
    """One-dimensional flow from controls at -a and a, with noise of std s, to N(m, d^2), drawn independently.

    x_t = (1 - t) x0 + t x1 is then a mixture of two normals, whose velocity is known. The particles lie along an image.
    """

    a, s, m, d, n = 2.0, 1.0, 0.3, 0.5, 20_000

    def __init__(self):
        quantiles = (torch.arange(self.n, dtype=torch.float64) + 0.5) / self.n
        self.normal = Normal(0.0, 1.0).icdf(quantiles)[
            torch.randperm(self.n, generator=torch.Generator().manual_seed(0))
        ]
        self.up = torch.arange(self.n) % 2 == 0  # particles of the control at a
        self.control = torch.where(self.up, self.a, -self.a).double()
        self.exact = self.m + self.d * self.normal

    def v(self, x, t):
        t = lift(t, x)
        variance = ((1 - t) * self.s) ** 2 + (t * self.d) ** 2
        away = [(x - (1 - t) * c - t * self.m) / variance for c in (-self.a, self.a)]
        share = torch.stack([-0.5 * variance * z.square() for z in away]).softmax(0)
        ends = [t * self.d**2 * z + self.m - ((1 - t) * self.s**2 * z + c) for z, c in zip(away, (-self.a, self.a))]
        return share[0] * ends[0] + share[1] * ends[1]

    def drift_corrected(self, sampler):
        """Drift correction of Flow-GRPO: v + eta^2 / 2 score on noisy steps, with the score for a normal source."""

        def v(x, t):
            v_t, noisy = self.v(x, t), (sampler.noisy_steps()[0] - t[0]).abs().min() < 1e-9
            score = -(x - lift(t, x) * v_t) / (1 - lift(t, x))
            return v_t + sampler.eta**2 / 2 * score if noisy else v_t

        return v

    def sample(self, sampler, v, level):
        x1, _, _ = sampler.sample_with_log_prob(v, (self.control + level * self.normal)[None], torch.tensor([1]))
        return x1[0]


def w1(x, y):
    """The Wasserstein-1 distance of two samples of the same size."""
    return (x.sort().values - y.sort().values).abs().mean().item()


@pytest.mark.parametrize(("eta", "corrected", "unreduced"), [(0.5, 0.02, 0.0), (1.0, 0.06, 0.02), (1.5, 0.11, 0.045)])
def test_the_distribution_is_kept_for_a_source_that_is_not_normal(eta, corrected, unreduced):
    """W1 to the exact distribution, overall and of one control: ours is small for any eta, others grow with it."""
    line = Line()
    sampler = SDESampler(times=uniform_times(32), sde_window=(0, 6), eta=eta, solver=multistep)
    of_one_control = multistep(line.v, (line.control + line.s * line.normal)[None], uniform_times(200))[0][line.up]
    ours = line.sample(sampler, line.v, sampler.source_level(line.s))
    assert w1(ours, line.exact) < 0.008 and w1(ours[line.up], of_one_control) < 0.006
    assert w1(line.sample(sampler, line.drift_corrected(sampler), line.s), line.exact) > corrected
    assert w1(line.sample(sampler, line.v, line.s), line.exact) > unreduced  # without `source_level`


def test_on_four_steps_the_noise_adds_little_to_the_error_of_the_solver():
    """The default, two noisy steps of four; they are Euler steps, which adds a little error."""
    line = Line()
    sampler = SDESampler(times=uniform_times(4), sde_window=(0, 2), eta=0.5, solver=multistep)
    solver = multistep(line.v, (line.control + line.s * line.normal)[None], uniform_times(4))[0]
    ours = line.sample(sampler, line.v, sampler.source_level(line.s))
    assert w1(solver, line.exact) > 0.15 and w1(ours, solver) < 0.02
    assert w1(line.sample(sampler, line.drift_corrected(sampler), line.s), line.exact) > w1(ours, line.exact) + 0.02


def test_source_level_subtracts_the_noise_of_the_window():
    sampler = SDESampler(times=uniform_times(4), sde_window=(0, 2), eta=0.4, solver=euler)
    assert sampler.source_level(1.0) == pytest.approx(math.sqrt(1 - 0.04 / 0.75**2 - 0.04 / 0.5**2))
    with pytest.raises(ValueError, match="take a smaller eta or an earlier window"):
        sampler.source_level(0.3)
    with pytest.raises(ValueError, match=r"need less noise than the source's, 0\.2; eta 0\.5 on steps \(0, 2\) of 4"):
        toy_rollout(toy_generator(noise_level=0.2), toy_sampler(toy_generator()))


def test_with_little_noise_it_is_the_ode_sampler():
    generator = toy_generator(noise_level=0.5, solver="euler")
    rollout = toy_rollout(generator, toy_sampler(generator, eta=1e-6))
    x1, source = generator.sample(rollout["x0"], rollout["condition"], rollout["seed"])
    torch.testing.assert_close(rollout["path"][:, 0], source)
    torch.testing.assert_close(rollout["action"], x1, rtol=0, atol=1e-5)


def test_actions_are_clamped_and_the_batch_size_does_not_matter():
    generator = toy_generator(noise_level=3.0)
    whole, parts = (toy_rollout(generator, toy_sampler(generator), batch_size=size) for size in (64, 7))
    assert whole["action"].abs().max() == 1 and whole["path"].abs().max() > 2
    for key in ("path", "action", "action_log_prob"):
        torch.testing.assert_close(whole[key], parts[key])
    n = whole["path"].diff(dim=1).flatten(2)  # noise differs between samples and between steps
    assert torch.corrcoef(n.flatten(0, 1)).triu(1).abs().max() < 0.98


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("precision", [nullcontext, autocast])
@pytest.mark.parametrize("guidance", [0.0, 0.3])
def test_the_ratio_is_exactly_one_before_the_first_update(precision, guidance):
    generator = toy_generator(tiny_unet(), guidance=guidance)
    sampler = toy_sampler(generator, sde_window=(1, 3), eta=0.3)
    rollout = toy_rollout(generator, sampler, groups=2, group_size=6, batch_size=12, autocast=precision)
    rows = flatten_transitions(transitions(rollout, sampler))
    policy = TransitionPolicy(generator)
    assert rows["action_log_prob"].dtype == torch.float32
    with precision():
        same_batches = torch.cat([log_prob_of(policy, part) for part in rows.split(12)])
        other_batches = torch.cat([log_prob_of(policy, rows[m::5]) for m in range(5)])
    order = torch.cat([torch.arange(len(rows))[m::5] for m in range(5)])
    assert torch.equal(same_batches, rows["action_log_prob"]) and same_batches.requires_grad
    ratio = (other_batches - rows["action_log_prob"][order]).exp()
    assert (ratio - 1).abs().max() < 1e-5  # rounding differs between batches
    if precision is autocast:  # the network ran in low precision, the log-probability did not
        t, h, std = sampler.noisy_steps()
        mean = rollout["path"][:, 0].double() + h[0] * v_of(generator, rollout, t[0])
        exact = log_density(rollout["path"][:, 1].double(), mean, std[0].expand(12))
        torch.testing.assert_close(rollout["action_log_prob"][:, 0].double(), exact, rtol=0, atol=1e-6)


def log_prob_of(policy, rows):
    return transition_distribution().get_dist(policy(rows)).log_prob(rows["x_next"])


def v_of(generator, rollout, t):
    with autocast(), torch.no_grad():
        return generator.guided(rollout["path"][:, 0], t.float().expand(12), rollout["condition"]).double()


def test_transitions_are_the_noisy_steps_of_the_path():
    generator = toy_generator()
    sampler = toy_sampler(generator, sde_window=(1, 3), eta=0.2)
    rollout = toy_rollout(generator, sampler, groups=2, group_size=3)
    rows = flatten_transitions(transitions(rollout, sampler))
    assert rows.batch_size == (12,)
    for i in range(12):
        sample, k = i % 6, i // 6
        assert torch.equal(rows["x_t"][i], rollout["path"][sample, k])
        assert torch.equal(rows["x_next"][i], rollout["path"][sample, k + 1])
        assert torch.equal(rows["condition"][i], rollout["condition"][sample])
        assert rows["action_log_prob"][i] == rollout["action_log_prob"][sample, k]
        assert rows["group"][i] == rollout["group"][sample]
        expected = [0.25 * (k + 1), 0.25, 0.2 * 0.5]
        assert [rows[key][i].item() for key in ("t", "h", "std")] == pytest.approx(expected)
    assert all(len(rows[s::2]["t"].unique()) == 2 for s in range(2))  # each minibatch covers every noisy step


def test_wrong_windows_raise():
    for sde_window in ((0, 5), (2, 2), (-1, 1)):
        with pytest.raises(ValueError, match="need an sde_window 0 <= first < end <= 4 of steps"):
            toy_sampler(toy_generator(), sde_window=sde_window)
    with pytest.raises(ValueError, match="need eta > 0, got 0"):
        toy_sampler(toy_generator(), eta=0)

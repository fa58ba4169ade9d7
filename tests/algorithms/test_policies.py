"""The chain: its probabilities, its law in one dimension against the exact one, its noise, and what a rollout holds."""

import math
from contextlib import nullcontext

import pytest
import torch
from chain_toys import tiny_unet, toy_chain, toy_generator, toy_rollout
from torch.distributions import Normal, kl_divergence

from algorithms.policies import Chain, StepLaw, log_density, rows_of, step_choice, step_kl, transitions
from cellenv.path import lift, uniform_times
from cellenv.solvers import euler, heun, multistep
from cellenv.streams import normal_like, seed_at

SHAPE = (4, 2, 3, 4)  # B == W, where broadcasting hides


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_density_and_divergence_are_means_over_the_image():
    x, mean, other = (draw(*SHAPE, seed=seed) for seed in (1, 2, 3))
    std = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64)
    law, law_ref = Normal(mean, lift(std, x)), Normal(other, lift(std, x))
    torch.testing.assert_close(log_density(x, mean, std), law.log_prob(x).flatten(1).mean(1))
    torch.testing.assert_close(step_kl(mean, other, std), kl_divergence(law, law_ref).flatten(1).mean(1))


@pytest.mark.parametrize("window", [(0, 2), (1, 3), (2, 4), (0, 4)])
def test_walk_is_the_solver_with_noise_in_the_window(window):
    def v(x, t):
        return torch.sin(3 * x) + lift(t, x)

    times = torch.tensor([0, 0.1, 0.3, 0.6, 1.0], dtype=torch.float64)
    chain = Chain(times=times, window=window, eta=0.7, solver=heun)
    source, seed = draw(*SHAPE, seed=4), torch.tensor([5, 6, 7, 8])
    x1, path, log_prob = chain.walk(v, source, seed)
    first, end = window
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
    """From controls at -a and a with noise of std s to N(m, d^2), drawn independently: v and score are known.

    Both are exact for x_t = (1 - t) x0 + t x1, a mixture of two normal laws. All particles lie along one image.
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

    def drifting(self, chain):
        """The usual remedy: v + eta^2 / 2 score on noisy steps, the score of a standard normal source."""

        def v(x, t):
            v_t, noisy = self.v(x, t), (chain.steps()[0] - t[0]).abs().min() < 1e-9
            score = -(x - lift(t, x) * v_t) / (1 - lift(t, x))
            return v_t + chain.eta**2 / 2 * score if noisy else v_t

        return v

    def end(self, chain, v, level):
        x1, _, _ = chain.walk(v, (self.control + level * self.normal)[None], torch.tensor([1]))
        return x1[0]


def w1(x, y):
    """The Wasserstein-1 distance of two samples of the same size."""
    return (x.sort().values - y.sort().values).abs().mean().item()


@pytest.mark.parametrize(("eta", "usual", "widened"), [(0.5, 0.02, 0.0), (1.0, 0.06, 0.02), (1.5, 0.11, 0.045)])
def test_the_law_stays_for_a_source_that_is_not_normal(eta, usual, widened):
    """W1 to the exact law, of all images and of one control's: ours is the solver's own, whatever eta; others grow."""
    line = Line()
    chain = Chain(times=uniform_times(32), window=(0, 6), eta=eta, solver=multistep)
    of_one = multistep(line.v, (line.control + line.s * line.normal)[None], uniform_times(200))[0][line.up]
    ours = line.end(chain, line.v, chain.source_level(line.s))
    assert w1(ours, line.exact) < 0.008 and w1(ours[line.up], of_one) < 0.006
    assert w1(line.end(chain, line.drifting(chain), line.s), line.exact) > usual
    assert w1(line.end(chain, line.v, line.s), line.exact) > widened  # the source kept all its noise


def test_on_four_steps_the_chain_adds_little_to_the_error_of_the_solver():
    """The default: a window of two of the base's four steps. What it adds is that its steps are Euler's."""
    line = Line()
    chain = Chain(times=uniform_times(4), window=(0, 2), eta=0.5, solver=multistep)
    solver = multistep(line.v, (line.control + line.s * line.normal)[None], uniform_times(4))[0]
    ours = line.end(chain, line.v, chain.source_level(line.s))
    assert w1(solver, line.exact) > 0.15 and w1(ours, solver) < 0.02
    assert w1(line.end(chain, line.drifting(chain), line.s), line.exact) > w1(ours, line.exact) + 0.02


def test_the_source_gives_up_what_the_chain_adds():
    chain = Chain(times=uniform_times(4), window=(0, 2), eta=0.4, solver=euler)
    assert chain.source_level(1.0) == pytest.approx(math.sqrt(1 - 0.04 / 0.75**2 - 0.04 / 0.5**2))
    with pytest.raises(ValueError, match="take a smaller eta or an earlier window"):
        chain.source_level(0.3)
    with pytest.raises(ValueError, match=r"need less noise than the source's, 0\.2; eta 0\.5 on steps \(0, 2\) of 4"):
        toy_rollout(toy_generator(noise_level=0.2), toy_chain(toy_generator()))


def test_with_little_noise_the_chain_is_the_sampler():
    generator = toy_generator(noise_level=0.5, solver="euler")
    rollout = toy_rollout(generator, toy_chain(generator, eta=1e-6))
    x1, source = generator.sample(rollout["x0"], rollout["condition"], rollout["seed"])
    torch.testing.assert_close(rollout["path"][:, 0], source)
    torch.testing.assert_close(rollout["action"], x1, rtol=0, atol=1e-5)


def test_images_are_clamped_and_chunks_do_not_matter():
    generator = toy_generator(noise_level=3.0)
    whole, parts = (toy_rollout(generator, toy_chain(generator), chunk=chunk) for chunk in (64, 7))
    assert whole["action"].abs().max() == 1 and whole["path"].abs().max() > 2
    for key in ("path", "action", "action_log_prob"):
        torch.testing.assert_close(whole[key], parts[key])
    n = whole["path"].diff(dim=1).flatten(2)  # of two samples, and of two steps, nothing is the same noise
    assert torch.corrcoef(n.flatten(0, 1)).triu(1).abs().max() < 0.98


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("precision", [nullcontext, autocast])
@pytest.mark.parametrize("guidance", [0.0, 0.3])
def test_the_ratio_is_exactly_one_before_the_first_update(precision, guidance):
    generator = toy_generator(tiny_unet(), guidance=guidance)
    chain = toy_chain(generator, window=(1, 3), eta=0.3)
    rollout = toy_rollout(generator, chain, groups=2, group_size=6, chunk=12, autocast=precision)
    rows, law = rows_of(transitions(rollout, chain)), StepLaw(generator)
    assert rows["action_log_prob"].dtype == torch.float32
    with precision():
        as_made = torch.cat([step_choice().get_dist(law(piece)).log_prob(piece["x_next"]) for piece in rows.split(12)])
        mixed = torch.cat([step_choice().get_dist(law(rows[m::5])).log_prob(rows[m::5]["x_next"]) for m in range(5)])
    order = torch.cat([torch.arange(len(rows))[m::5] for m in range(5)])
    assert torch.equal(as_made, rows["action_log_prob"]) and as_made.requires_grad
    assert (mixed - rows["action_log_prob"][order]).exp().sub(1).abs().max() < 1e-5  # another batch rounds elsewhere
    if precision is autocast:  # the network was in low precision, and the probability was not
        t, h, std = chain.steps()
        mean = rollout["path"][:, 0].double() + h[0] * v_of(generator, rollout, t[0])
        exact = log_density(rollout["path"][:, 1].double(), mean, std[0].expand(12))
        torch.testing.assert_close(rollout["action_log_prob"][:, 0].double(), exact, rtol=0, atol=1e-6)


def v_of(generator, rollout, t):
    with autocast(), torch.no_grad():
        return generator.guided(rollout["path"][:, 0], t.float().expand(12), rollout["condition"]).double()


def test_transitions_are_the_steps_of_the_path():
    generator = toy_generator()
    chain = toy_chain(generator, window=(1, 3), eta=0.2)
    rollout = toy_rollout(generator, chain, groups=2, group_size=3)
    rows = rows_of(transitions(rollout, chain))
    assert rows.batch_size == (12,)
    for i in range(12):
        sample, k = i % 6, i // 6
        assert torch.equal(rows["x_t"][i], rollout["path"][sample, k])
        assert torch.equal(rows["x_next"][i], rollout["path"][sample, k + 1])
        assert torch.equal(rows["condition"][i], rollout["condition"][sample])
        assert rows["action_log_prob"][i] == rollout["action_log_prob"][sample, k]
        expected = [0.25 * (k + 1), 0.25, 0.2 * 0.5]
        assert [rows[key][i].item() for key in ("t", "h", "std")] == pytest.approx(expected)
    assert all(len(rows[s::2]["t"].unique()) == 2 for s in range(2))  # each optimizer step meets every noisy step


def test_wrong_windows_are_named():
    for window in ((0, 5), (2, 2), (-1, 1)):
        with pytest.raises(ValueError, match="need a window 0 <= first < end <= 4 of steps"):
            toy_chain(toy_generator(), window=window)
    with pytest.raises(ValueError, match="need eta > 0, got 0"):
        toy_chain(toy_generator(), eta=0)
